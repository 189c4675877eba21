//! The router artifact that a stack names, or the one that Weir ships.

use crate::stack::Loaded;
use crate::stage::Stager;
use crate::stage_error::StageError;
use crate::status::RouterStatus;
use weir_models::Source;
use weir_router::Router;

/// The router of a stack, its bytes checked against the digest that the stack states. What lies at an address is fetched once.
pub(crate) async fn load_router(
    loaded: &Loaded,
    stager: &Stager,
) -> Result<(Router, RouterStatus), StageError> {
    let Some(version) = loaded.gateway.spec.router.version.clone() else {
        let router = Router::builtin();
        let sha256 = router.artifact().sha256().to_owned();
        return Ok((
            router,
            RouterStatus {
                version: "builtin".into(),
                sha256,
            },
        ));
    };
    let fail = |message: String| StageError::Router {
        name: version.clone(),
        message,
    };
    let routers = &loaded.stack.routers;
    let found = routers
        .iter()
        .find(|r| r.metadata.name.as_deref() == Some(&version));
    let spec = &found
        .ok_or_else(|| fail("is not in the stack".into()))?
        .spec;
    let base = loaded.stack.base_dir("RouterVersion", &version);
    let url = spec.artifact.url.as_ref().ok_or_else(|| {
        fail("its artifact is in a ConfigMap, which only a cluster has: write artifact: {url: file://PATH} or https://HOST/PATH".into())
    })?;
    let path = match Source::parse(url, base) {
        Ok(Source::File(path)) => path,
        Ok(source) => {
            let fetched = stager.fetch(&version, &source, Some(&spec.sha256));
            fetched
                .await
                .map_err(|error| fail(weir_plan::chain(&error)))?
        }
        Err(error) => return Err(fail(weir_plan::chain(&error))),
    };
    let bytes = std::fs::read(&path)
        .map_err(|error| fail(format!("cannot read artifact {}: {error}", path.display())))?;
    let sha256 = crate::digest::of_bytes(&bytes);
    if sha256 != spec.sha256 {
        return Err(fail(format!(
            "artifact {} has SHA-256 {sha256}, the stack says {}: get the artifact that was meant, or write the digest of \
             this one",
            path.display(),
            spec.sha256
        )));
    }
    let artifact = weir_router::Artifact::from_bytes(&bytes)
        .map_err(|error| fail(weir_plan::chain(&error)))?;
    let router = Router::new(artifact).map_err(|error| fail(weir_plan::chain(&error)))?;
    Ok((router, RouterStatus { version, sha256 }))
}
