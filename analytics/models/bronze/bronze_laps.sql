{{ landed('laps') }}
