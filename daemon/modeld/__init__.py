"""
modeld: what systemd is to services, for local language models.

    __main__ > rpc | gateway | host > supervisor > config > core | wire > errors | units

`client`, a facade for programs, stands beside rpc and knows only wire, errors, units and modelctl's
own connection.

The life of `modelctl load -n1 tool`:

    modelctl.table      argv -> Load(slot="tool")
    modelctl.client     DEALER -> the ipc socket
    rpc.server          frame -> wire.codec -> Load            (this user only; 1 MiB; request id)
    rpc.handlers        Load -> LoadAsked, awaits progress and the answer
    supervisor.loop     the only writer from here on
      loads               core.resolve: names -> one model, or why not
                          what runs already? core.throttle; core.argv; then a job
      jobs                core.fit and core.plan: which servers go first, and why
      lives               core.lifecycle: (state, event) -> (state, actions)
      room, idling        core.sharing: whose turn it is; core.keeping: who was idle for too long
      ports               start, watch -> host.servers, host.probe
    host.*              Started, Loading, Ready, Exited -> events into the same queue
    supervisor.world    publishes new immutable routes; the client's progress stream ends
    gateway             POST /v1/chat/completions {"model": "tool"} -> route -> the server's socket

Every arrow into the loop is an event, every arrow out is a call of a port that returns at once;
slow work never runs in the loop and comes back as an event.  Decisions are made in `core`, which
is pure, and return their reasons as data.  This file imports nothing.
"""
