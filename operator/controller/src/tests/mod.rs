//! Conversations with an API server that says what the scenario says, and the control stream over real TLS.

mod applying;
mod artifacts;
mod authorities;
mod collecting;
mod control;
mod conversation;
mod keys;
mod leading;
mod mounted;
mod rollouts;
mod scenario;
mod shown;
mod statuses;
mod steering;
mod waking;
mod watching;
