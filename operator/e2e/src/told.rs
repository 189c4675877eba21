//! What a scenario says while it runs: every line with the scenario's name before it, since two of them may run at a time.

use std::fmt::Arguments;

tokio::task_local! {
    /// The scenario that the task in hand belongs to.
    static SCENARIO: &'static str;
}

/// Says something, in one line or some, as `println!` does.
macro_rules! say {
    ($($what:tt)*) => { $crate::told::print(format_args!($($what)*)) };
}
pub(crate) use say;

/// Runs the steps of `scenario`.
pub(crate) async fn of<T>(scenario: &'static str, steps: impl Future<Output = T>) -> T {
    SCENARIO.scope(scenario, steps).await
}

pub(crate) fn print(what: Arguments<'_>) {
    let scenario = SCENARIO.try_with(|scenario| *scenario).unwrap_or_default();
    for line in what.to_string().lines() {
        println!("    {scenario:<12} {line}");
    }
}
