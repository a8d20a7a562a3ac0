{{ landed('meetings') }}
