-- At most one driver of a session is first, and a session with laps that were timed has one.
select session_key
from {{ ref('session_leaderboard') }}
group by session_key
having sum(case when position = 1 then 1 else 0 end) > 1
  or (count(best_lap_duration) > 0 and sum(case when position = 1 then 1 else 0 end) = 0)
