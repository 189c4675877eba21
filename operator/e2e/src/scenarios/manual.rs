//! What a person reads is what works: the shell lines of README.md and docs/operations.md are run word for word, on a cluster
//! without Weir, from the installation to the last trace of it.
//!
//! It comes after `uninstall`, and ends this program's model hub: the page starts one of its own at the same address.

use crate::page::Page;
use crate::told::say;
use crate::world::World;
use anyhow::{Context, Result, ensure};
use std::time::Duration;

pub(crate) const OPERATIONS: &str = "docs/operations.md";
/// Longest that the lines of one visit may take.
const PATIENCE: Duration = Duration::from_secs(900);
/// What a reader has done before: `make install` and `make build`, and the image is in their registry. What they started in the
/// background ends with them.
pub(crate) const READER: &str = "export REGISTRY=weir.local WEIR_BUILT=1\ntrap 'kill $(jobs -p) 2>/dev/null || true' EXIT\nset -x\n";

pub(crate) async fn run(world: &World) -> Result<()> {
    let page = Page::read(&world.repository, OPERATIONS)?;
    let front = Page::read(&world.repository, "README.md")?;
    let uninstall = format!(
        "{}{}",
        page.block("Uninstall", 0)?,
        page.block("Uninstall", 1)?
    );

    let visit = [page.block("Install", 1)?, page.block("Upgrade", 0)?];
    read(world, &visit, &uninstall)
        .await
        .context("Install, Upgrade, Uninstall")?;

    // The stack of this page takes its models from outside, so it is declared and no more.
    let visit = [
        front.block("On a cluster", 0)?,
        page.block("Who may ask", 0)?,
    ];
    let said = read(world, &visit, &uninstall).await.context("README.md")?;
    ensure!(said.contains("lfm2-350m"), "kubectl get weir says {said}");

    world.hub.end().await?;
    let visit = [
        page.block("On the test cluster", 0)?,
        page.block("Who may ask", 1)?,
    ];
    let said = read(world, &visit, &uninstall)
        .await
        .context("On the test cluster")?;
    let answer = said.trim().lines().last().unwrap_or_default();
    say!("{answer}");
    ensure!(!answer.is_empty(), "`weir ask` says nothing");
    Ok(())
}

/// Runs these lines, then those of the uninstall; what the former printed.
async fn read(world: &World, visit: &[String], uninstall: &str) -> Result<String> {
    let lines = format!("{READER}{}", visit.concat());
    let said = tokio::time::timeout(PATIENCE, world.shell(&lines)).await;
    // A later visit finds the cluster as this one did, also when it failed.
    let gone = async {
        world.shell(&format!("{READER}{uninstall}")).await?;
        // What people made for themselves stays theirs to remove, and so does a volume that is retained.
        let own = [
            "delete",
            "secret/keys",
            "pvc/kb-memory",
            "--ignore-not-found",
        ];
        world.tool("kubectl", &own).await?;
        let arguments = ["get", "clusterroles,clusterrolebindings,crds", "-o", "name"];
        let left = world.tool("kubectl", &arguments).await?;
        ensure!(!left.contains("weir"), "left behind: {left}");
        anyhow::Ok(())
    };
    let gone = gone.await.context("Uninstall");
    let said = said.context("the lines do not end")??;
    gone?;
    Ok(said)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every block of the page, and who runs it.
    const BLOCKS: [(&str, usize, &str); 12] = [
        (
            "Install",
            0,
            "nobody: it takes a registry and a release build",
        ),
        ("Install", 1, "manual"),
        (
            "Install",
            2,
            "nobody: it takes a network and twelve processors",
        ),
        ("On the test cluster", 0, "manual"),
        ("Who may ask", 0, "manual"),
        ("Who may ask", 1, "manual"),
        ("Rights", 0, "namespaced"),
        (
            "HTTPS",
            0,
            "nobody: it takes a certificate and its name; `fields` does the same",
        ),
        (
            "gRPC",
            0,
            "nobody: it takes grpcurl; tests of weir-gateway ask the same with tonic",
        ),
        ("Upgrade", 0, "manual"),
        ("Uninstall", 0, "manual"),
        ("Uninstall", 1, "manual"),
    ];

    #[test]
    fn of_every_block_of_the_page_it_is_known_who_runs_it() {
        let repository = crate::hub::repository().unwrap();
        let page = Page::read(&repository, OPERATIONS).unwrap();
        let found: Vec<String> = page.all().into_iter().map(|(heading, _)| heading).collect();
        let known: Vec<&str> = BLOCKS.iter().map(|(heading, ..)| *heading).collect();
        assert_eq!(
            found, known,
            "a block came or went: have it run, or say here why nobody does"
        );
        for (heading, number, _) in BLOCKS {
            page.block(heading, number).unwrap();
        }
    }
}
