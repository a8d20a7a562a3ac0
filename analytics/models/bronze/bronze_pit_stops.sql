{{ landed('pit') }}
