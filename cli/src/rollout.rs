//! `weir rollout`: the takeover of a router version in a cluster, seen and steered.
//!
//! The cluster is read and written by `weir-operator`'s client; here are the words.

use crate::args::{OfGateway, Output, RolloutArgs, RolloutCommand};
use crate::fail::Failure;
use crate::output::{age, bold, columns, dim};
use serde_json::json;
use weir_crds::{RolloutAction, RolloutPhase, RouterRollout, VersionEvidenceStatus};
use weir_operator::client::{ClusterClient, GatewayRollouts};

pub(crate) async fn run(args: RolloutArgs) -> Result<(), Failure> {
    match args.command {
        RolloutCommand::Status(of) => status(&of).await,
        RolloutCommand::Pause(of) => act(&of, RolloutAction::Pause).await,
        RolloutCommand::Continue(of) => act(&of, RolloutAction::Continue).await,
        RolloutCommand::Promote(of) => act(&of, RolloutAction::Promote).await,
        RolloutCommand::Abort(of) => act(&of, RolloutAction::Abort).await,
    }
}

async fn status(of: &OfGateway) -> Result<(), Failure> {
    let client = ClusterClient::connect(of.namespace.as_deref()).await?;
    let found = client.rollouts_of(&of.gateway).await?;
    match of.output {
        Output::Json => {
            let router = found.gateway.status.as_ref().map(|status| &status.router);
            let value = json!({
                "gateway": of.gateway, "router": router, "rollouts": found.attempts,
            });
            anstream::println!("{}", serde_json::to_string_pretty(&value)?);
        }
        Output::Text => anstream::println!("{}", text(&found)),
    }
    Ok(())
}

async fn act(of: &OfGateway, action: RolloutAction) -> Result<(), Failure> {
    let client = ClusterClient::connect(of.namespace.as_deref()).await?;
    let rollout = client.act(&of.gateway, action).await?;
    match of.output {
        Output::Json => anstream::println!("{}", serde_json::to_string_pretty(&rollout)?),
        Output::Text => anstream::println!("{}: {}", called(&rollout), promise(action)),
    }
    Ok(())
}

/// What happens next, since the operator does it and not this command.
fn promise(action: RolloutAction) -> &'static str {
    match action {
        RolloutAction::Continue => "goes on by the evidence",
        RolloutAction::Pause => "holds its weight",
        RolloutAction::Promote => "becomes active unless the evidence has decided against it",
        RolloutAction::Abort => "is taken out",
    }
}

fn text(found: &GatewayRollouts) -> String {
    let router = found
        .gateway
        .status
        .as_ref()
        .and_then(|status| status.router.as_ref());
    let active = router.map_or("-", |router| &router.active);
    let mut parts = vec![format!("{} {active}", bold("active"))];
    if let Some(running) = found.running() {
        parts.push(described(running));
    }
    if found.attempts.is_empty() {
        parts.push(dim(
            "no rollout yet: change router.version of the gateway to begin one",
        ));
    } else {
        parts.push(table(&found.attempts));
    }
    parts.join("\n\n")
}

/// The attempt that runs, with its numbers.
fn described(rollout: &RouterRollout) -> String {
    let status = rollout.status.clone().unwrap_or_default();
    let head = format!(
        "{} {} at {} %: {}",
        bold("candidate"),
        rollout.spec.to.version,
        status.weight,
        if status.message.is_empty() {
            "the operator has not taken it up yet"
        } else {
            &status.message
        }
    );
    let evidence = &status.evidence;
    let row = |version: &str, of: &VersionEvidenceStatus| {
        let p99 = of
            .p99_milliseconds
            .map_or("-".into(), |ms| format!("{ms} ms"));
        vec![
            version.to_owned(),
            of.requests.to_string(),
            of.errors.to_string(),
            p99,
        ]
    };
    let rows = vec![
        row(&rollout.spec.from.version, &evidence.active),
        row(&rollout.spec.to.version, &evidence.candidate),
    ];
    let versions = columns(&["VERSION", "REQUESTS", "ERRORS", "P99"], rows);
    let decided = format!(
        "{} requests decided by both, {} of them differently",
        evidence.shadowed, evidence.disagreements
    );
    let regret = evidence.regret.as_ref().map(|regret| {
        let known = match (regret.estimate, regret.lower, regret.upper) {
            (Some(estimate), Some(lower), Some(upper)) => {
                format!(
                    "regret {estimate:.3}, between {lower:.3} and {upper:.3} at every look, by "
                )
            }
            _ => String::new(),
        };
        let (labels, of) = (regret.labelled, regret.disagreements);
        format!("\n{known}{labels} labels of {of} disagreements")
    });
    format!(
        "{head}\n{versions}\n{decided}{}",
        regret.unwrap_or_default()
    )
}

fn table(attempts: &[RouterRollout]) -> String {
    let head = [
        "ROLLOUT", "FROM", "TO", "PHASE", "WEIGHT", "EVIDENCE", "REASON", "AGE",
    ];
    let rows = attempts.iter().map(|rollout| {
        let status = rollout.status.clone().unwrap_or_default();
        let created = rollout.metadata.creation_timestamp.as_ref();
        let created = created.map(|time| time.0.to_string()).unwrap_or_default();
        vec![
            called(rollout).to_owned(),
            rollout.spec.from.version.clone(),
            rollout.spec.to.version.clone(),
            status.phase.map_or("-", RolloutPhase::as_str).to_owned(),
            status.weight.to_string(),
            status.progress,
            status.reason,
            age(&created),
        ]
    });
    columns(&head, rows.collect())
}

fn called(rollout: &RouterRollout) -> &str {
    rollout.metadata.name.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found() -> GatewayRollouts {
        let read = |value| serde_json::from_value(value).expect("an object");
        let rollout = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "RouterRollout",
            "metadata": {"name": "support-v2-1"},
            "spec": {
                "gateway": "support",
                "from": {"version": "v1", "sha256": "a"}, "to": {"version": "v2", "sha256": "b"},
                "shadow": {}, "canary": {}, "gate": {},
            },
            "status": {
                "phase": "Canary", "step": 1, "weight": 5, "reason": "Collecting",
                "message": "7 of 200 requests of the candidate", "progress": "step 1/3: 7/200 requests, 0 errors",
                "evidence": {
                    "active": {"requests": 130, "errors": 1, "p99Milliseconds": 420},
                    "candidate": {"requests": 7, "errors": 0},
                    "shadowed": 240, "disagreements": 12,
                    "regret": {"estimate": 0.25, "lower": -0.1, "upper": 0.6, "compared": 90,
                               "disagreements": 12, "labelled": 9},
                },
            },
        });
        let gateway = json!({
            "apiVersion": "weir.dev/v1alpha1", "kind": "InferenceGateway",
            "metadata": {"name": "support"},
            "spec": {"pools": {"matchLabels": {"a": "b"}}, "auth": {"anonymous": {}}},
            "status": {"router": {"active": "v1", "candidate": "v2"}},
        });
        GatewayRollouts {
            gateway: serde_json::from_value(gateway).expect("a gateway"),
            attempts: vec![read(rollout)],
        }
    }

    #[test]
    fn a_status_says_what_serves_what_is_tried_and_what_is_missing() {
        let text = anstream::adapter::strip_str(&text(&found())).to_string();
        for said in [
            "active v1",
            "candidate v2 at 5 %: 7 of 200 requests of the candidate",
            "v1        130        1        420 ms",
            "240 requests decided by both, 12 of them differently",
            "regret 0.250, between -0.100 and 0.600 at every look, by 9 labels of 12 disagreements",
            "support-v2-1",
            "step 1/3: 7/200 requests, 0 errors",
        ] {
            assert!(text.contains(said), "{said:?} is not in\n{text}");
        }
    }

    #[test]
    fn without_a_rollout_it_says_how_one_begins() {
        let mut none = found();
        none.attempts.clear();
        assert!(text(&none).contains("change router.version"));
    }
}
