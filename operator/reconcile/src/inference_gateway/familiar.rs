//! Whether a gateway's requests are like those that its router was trained on.
//!
//! Every process sums up its last requests; the sums of one artifact add up and are compared with the profile that it
//! carries. The thresholds are `weir_router::drift`'s.

use crate::condition::Verdict;
use weir_router::Artifact;
use weir_router::drift::{Drift, REQUESTS_MIN, Window};

/// What the reports of all processes come to: windows with the digest of the artifact that each was compared with. `None`
/// where the artifact cannot tell.
pub fn drift<'a>(
    artifact: &Artifact,
    windows: impl IntoIterator<Item = (&'a str, Window)>,
) -> Option<Drift> {
    let mut sum = Window::default();
    for (sha256, window) in windows {
        // Whoever still serves another version, or counts otherwise, is not heard.
        if sha256 == artifact.sha256() && window.judge(artifact).is_some() {
            sum.merge(&window);
        }
    }
    sum.judge(artifact)
}

/// What people are told of it.
pub(super) fn verdict(drift: &Drift) -> Verdict {
    if !drift.is_known() {
        let text = format!(
            "fewer than {REQUESTS_MIN} requests were compared with those that the router was trained on"
        );
        return Verdict::unknown("Collecting", text);
    }
    if drift.findings.is_empty() {
        return Verdict::yes(
            "AsTrained",
            "requests are like those that the router was trained on",
        );
    }
    let says: Vec<&str> = drift.findings.iter().map(|one| one.says.as_str()).collect();
    let text = format!(
        "requests are not like those that the router was trained on: {}: collect outcomes on questions of now and train \
         again",
        says.join("; ")
    );
    Verdict::no("Drifted", text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use weir_router::{QueryFacts, Router};

    /// This many requests with this text, as one process sums them up.
    fn window(router: &Router, text: &str, count: usize) -> Window {
        let facts = QueryFacts {
            text,
            ..QueryFacts::default()
        };
        let reading = router.compare(&[facts.features()]).expect("a profile");
        let profile = router.artifact().manifest().profile.as_ref();
        let kinds = profile.map_or(0, |profile| profile.kinds().len());
        let mut window = Window::default();
        (0..count).for_each(|_| window.add(&reading, kinds));
        window
    }

    #[test]
    fn processes_add_up_and_those_of_another_artifact_are_not_heard() {
        let router = Router::builtin();
        let artifact = router.artifact();
        let text = "SELECT * FROM t WHERE a = 1; ".repeat(40);
        let own = || (artifact.sha256(), window(&router, &text, 150));
        let one = drift(artifact, [own()]).expect("a profile");
        assert!(!one.is_known() && one.findings.is_empty(), "{one:?}");
        let two = drift(artifact, [own(), own()]).expect("a profile");
        assert!(two.is_known() && !two.findings.is_empty(), "{two:?}");
        assert_eq!(verdict(&two).reason, "Drifted");
        let other = ("another", window(&router, &text, 400));
        assert_eq!(drift(artifact, [own(), other]), Some(one));
        let mut broken = window(&router, &text, 400);
        broken.columns[0] = f64::NAN;
        let heard = drift(artifact, [(artifact.sha256(), broken)]);
        assert_eq!(heard, Some(Drift::default()), "numbers that are none");
    }
}
