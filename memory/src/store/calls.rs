//! Calls in flight: whether the memory is being asked or written to for somebody at the moment.
//!
//! Whoever answers callers says so; upkeep looks here and waits. Counts only: it delays nobody itself.

use std::sync::atomic::Ordering;

use super::Memory;

/// A call of the memory, for as long as it lives.
#[derive(Debug)]
pub struct Call(Memory);

impl Memory {
    /// Somebody is being answered until what is returned is dropped.
    pub fn begin_call(&self) -> Call {
        self.inner.calls.fetch_add(1, Ordering::AcqRel);
        Call(self.clone())
    }

    /// How many are being answered.
    pub fn calls(&self) -> usize {
        self.inner.calls.load(Ordering::Acquire)
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        self.0.inner.calls.fetch_sub(1, Ordering::AcqRel);
    }
}
