{{ landed('starting_grid') }}
