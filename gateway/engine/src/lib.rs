//! Talking to engines: client, server-sent events, replicas, breaker.
