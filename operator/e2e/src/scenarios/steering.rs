//! What a person does with `weir rollout`, and what is printed. Parts of the scenario `rollouts`.

use crate::told::say;
use crate::world::{Namespace, World};
use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The gateway whose rollouts are steered.
const GATEWAY: &str = super::GATEWAY;

/// Runs one of the commands that change something and looks at its answer, `ROLLOUT: PROMISE`.
pub(super) async fn act(
    namespace: &Namespace<'_>,
    command: &str,
    (rollout, promise): (&str, &str),
) -> Result<()> {
    let said = said(namespace, &[command, GATEWAY]).await?;
    ensure!(
        said == format!("{rollout}: {promise}\n"),
        "weir rollout {command} says {said:?}"
    );
    Ok(())
}

/// What decides while nothing is tried, and the attempts so far, the newest first.
pub(super) async fn shows_what_was(
    namespace: &Namespace<'_>,
    active: &str,
    newest: (&str, &str),
) -> Result<()> {
    let said = said(namespace, &["status", GATEWAY]).await?;
    let mut lines = said.lines();
    ensure!(
        lines.next() == Some(&format!("active {active}")),
        "the first line is not the version that decides: {said}"
    );
    ensure!(
        !said.contains("candidate"),
        "nothing is tried, and it says: {said}"
    );
    let mut rows = lines.skip_while(|line| !line.starts_with("ROLLOUT"));
    ensure!(rows.next().is_some(), "there is no table: {said}");
    let first: Vec<&str> = rows.next().unwrap_or_default().split_whitespace().collect();
    let (rollout, phase) = newest;
    ensure!(
        first.first() == Some(&rollout) && first.get(3) == Some(&phase),
        "the newest attempt is not {rollout}, {phase}: {said}"
    );
    Ok(())
}

/// What is tried while a person holds it, as text and as JSON.
pub(super) async fn shows_what_is_held(
    namespace: &Namespace<'_>,
    rollout: &str,
    (active, candidate): (&str, &str),
) -> Result<()> {
    let text = said(namespace, &["status", GATEWAY]).await?;
    say!("{text}");
    let begins = |word: &str| text.lines().find(|line| line.starts_with(word));
    let tried = begins(&format!("candidate {candidate} at ")).unwrap_or_default();
    ensure!(
        tried.ends_with("%: paused: continue, promote or abort it"),
        "it does not say what is tried: {text}"
    );
    for version in [active, candidate] {
        let row = begins(&format!("{version} ")).unwrap_or_default();
        let mut numbers = row.split_whitespace().skip(1).take(2);
        ensure!(
            numbers.all(|number| number.parse::<u64>().is_ok()) && !row.is_empty(),
            "it does not count the requests and errors of {version}: {text}"
        );
    }
    let row = begins(&format!("{rollout} ")).unwrap_or_default();
    ensure!(
        row.contains(" Paused "),
        "{rollout} is not in the table: {text}"
    );

    let json = said(namespace, &["status", GATEWAY, "--output", "json"]).await?;
    let json: Value = serde_json::from_str(&json).context("--output json")?;
    let newest = &json["rollouts"][0];
    ensure!(
        json["gateway"] == GATEWAY
            && json["router"]["active"] == active
            && newest["metadata"]["name"] == rollout
            && newest["spec"]["action"] == "Pause",
        "--output json says {json}"
    );
    Ok(())
}

/// Names that are not there, and a command for which there is nothing to do.
pub(super) async fn refuses(namespace: &Namespace<'_>) -> Result<()> {
    let own = namespace.name.as_str();
    for (command, gateway, place, why) in [
        (
            "status",
            "nobody",
            own,
            format!("there is no InferenceGateway nobody in namespace {own}: kubectl get "),
        ),
        (
            "abort",
            "nobody",
            own,
            format!("there is no InferenceGateway nobody in namespace {own}: kubectl get "),
        ),
        (
            "status",
            GATEWAY,
            "e2e-nowhere",
            format!(
                "there is no InferenceGateway {GATEWAY} in namespace e2e-nowhere: kubectl get "
            ),
        ),
        (
            "pause",
            GATEWAY,
            own,
            format!(
                "InferenceGateway {GATEWAY} has no rollout that runs: change its router.version to begin one"
            ),
        ),
    ] {
        let words = ["rollout", command, gateway, "-n", place];
        let ended = namespace.world.weir(&words).await?;
        let told = String::from_utf8_lossy(&ended.stderr);
        ensure!(
            ended.status.code() == Some(1) && ended.stdout.is_empty(),
            "weir {} ended with {}",
            words.join(" "),
            ended.status
        );
        ensure!(
            told.starts_with(&format!("weir: {why}")) && told.lines().count() == 1,
            "weir {} says {told:?}, not {why:?}",
            words.join(" ")
        );
    }
    Ok(())
}

/// What `weir rollout` prints in the scenario's namespace.
async fn said(namespace: &Namespace<'_>, words: &[&str]) -> Result<String> {
    let world: &World = namespace.world;
    let all = [&["rollout"][..], words, &["-n", &namespace.name]].concat();
    let ended = world.weir(&all).await?;
    ensure!(
        ended.status.success(),
        "weir {}: {}: {}",
        all.join(" "),
        ended.status,
        String::from_utf8_lossy(&ended.stderr)
    );
    Ok(String::from_utf8_lossy(&ended.stdout).into_owned())
}
