{{ landed('stints') }}
