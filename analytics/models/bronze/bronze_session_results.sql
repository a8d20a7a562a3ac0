{{ landed('session_result') }}
