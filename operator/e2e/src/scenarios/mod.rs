//! What is promised of a running installation, one file a promise.

pub(crate) mod faults;
pub(crate) mod idle;
pub(crate) mod mistakes;
pub(crate) mod rollouts;
pub(crate) mod scale;
pub(crate) mod stack;
pub(crate) mod uninstall;
pub(crate) mod upgrade;
