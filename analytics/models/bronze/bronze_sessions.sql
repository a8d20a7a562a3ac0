{{ landed('sessions') }}
