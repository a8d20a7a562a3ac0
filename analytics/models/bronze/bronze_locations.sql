{{ landed('location') }}
