"""Plays a session as F1 and OpenF1 send it while it is on: a SignalR hub, the archive beside it, and MQTT.

The steps: a `script` is read from whatever holds a session, a `player` walks through it by a clock and keeps the merged
state, and a `hub` (SignalR Core) and a `publisher` (MQTT) send on what is played, the hub with `faults` on purpose.
"""

from simulator.live.hub import Hub, HubSettings
from simulator.live.player import Player, Timing
from simulator.live.script import Script, ScriptError, read_script

__all__ = ["Hub", "HubSettings", "Player", "Script", "ScriptError", "Timing", "read_script"]
