{{ landed('drivers') }}
