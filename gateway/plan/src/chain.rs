//! How an error is told in one line, with its causes.
//!
//! Here because every crate that logs, or writes a status, knows this one.

use std::error::Error;

/// An error and what caused it in one line. A cause that is repeated by what it caused is said once.
pub fn chain(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !line.contains(&said) {
            line.push_str(": ");
            line.push_str(&said);
        }
        next = cause.source();
    }
    line
}

#[cfg(test)]
mod tests {
    use super::chain;
    use std::io;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Told(&'static str, #[source] io::Error);

    #[test]
    fn a_cause_is_said_once_also_where_its_error_repeats_it() {
        let fire = || io::Error::other("disk on fire");
        assert_eq!(
            chain(&Told("read a.gguf", fire())),
            "read a.gguf: disk on fire"
        );
        let repeated = Told("read a.gguf: disk on fire", fire());
        assert_eq!(chain(&repeated), "read a.gguf: disk on fire");
        assert_eq!(chain(&fire()), "disk on fire");
    }
}
