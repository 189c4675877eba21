//! What came of the scenarios, said once more at the end: of a long log only the end is seen.

/// Longest cause, in characters; the whole of it stands where its scenario ended.
const CAUSE_MAX: usize = 1000;

/// What was not as promised.
#[derive(Debug, Default)]
pub(crate) struct Outcomes {
    /// Scenarios that failed, and why.
    failed: Vec<(&'static str, String)>,
    /// Scenarios that did not run, since nothing more could come of them.
    not_run: Vec<&'static str>,
}

impl Outcomes {
    /// A scenario failed.
    pub(crate) fn failed(&mut self, scenario: &'static str, cause: &anyhow::Error) {
        self.failed.push((scenario, format!("{cause:#}")));
    }

    /// A scenario is left out.
    pub(crate) fn left_out(&mut self, scenario: &'static str) {
        self.not_run.push(scenario);
    }

    /// Whether every scenario ran and passed.
    pub(crate) fn are_good(&self) -> bool {
        self.failed.is_empty() && self.not_run.is_empty()
    }

    /// The list, one scenario after the other.
    pub(crate) fn list(&self) -> String {
        let mut list = String::from("failed:\n");
        for (scenario, cause) in &self.failed {
            let mut short: String = cause.chars().take(CAUSE_MAX).collect();
            if short.len() < cause.len() {
                short.push_str(" ...");
            }
            let lines = short.trim_end().replace('\n', "\n      ");
            list.push_str(&format!("  {scenario}: {lines}\n"));
        }
        if !self.not_run.is_empty() {
            list.push_str(&format!("not run: {}\n", self.not_run.join(", ")));
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::anyhow;

    #[test]
    fn every_cause_is_listed_in_short_and_what_did_not_run_is_named() {
        let mut outcomes = Outcomes::default();
        assert!(outcomes.are_good());
        let cause = anyhow!("not within 60 s").context("the field stays changed");
        outcomes.failed("damage", &cause);
        outcomes.failed(
            "scale",
            &anyhow!("2 of 9 requests failed:\n  at 1.0 s\n  at 2.0 s"),
        );
        outcomes.failed("faults", &anyhow!("é".repeat(3 * CAUSE_MAX)));
        outcomes.left_out("upgrade");
        outcomes.left_out("uninstall");
        assert!(!outcomes.are_good());
        let list = outcomes.list();
        let (told, cut) = list.split_once("  faults: ").unwrap();
        assert_eq!(
            told,
            "failed:\n  damage: the field stays changed: not within 60 s\n  \
             scale: 2 of 9 requests failed:\n        at 1.0 s\n        at 2.0 s\n"
        );
        let whole = "é".repeat(CAUSE_MAX);
        assert_eq!(cut, format!("{whole} ...\nnot run: upgrade, uninstall\n"));
    }
}
