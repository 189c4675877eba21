//! What is said of an object that this version cannot read: a condition and an Event, and nothing else is touched.

use crate::apply::{ApplyError, MANAGER};
use crate::context::{Context, Next, ReconcileError};
use crate::key::Key;
use kube::Resource;
use kube::api::{Api, Patch, PatchParams};
use kube::core::{ApiResource, DynamicObject, GroupVersionKind};
use serde_json::{Value, json};

/// Reason of the condition and of the Event.
pub(crate) const UNREADABLE: &str = "Unreadable";

/// Says `error` in the object's `Ready` condition, once.
pub(crate) async fn reconcile(
    context: &Context,
    key: &Key,
    error: &str,
) -> Result<Next, ReconcileError> {
    let gvk = GroupVersionKind::gvk(weir_crds::GROUP, weir_crds::VERSION, key.kind.as_str());
    let resource = ApiResource::from_gvk(&gvk);
    let client = context.cluster.client();
    let api: Api<DynamicObject> = Api::namespaced_with(client, &key.namespace, &resource);
    let fail = |step: &'static str| {
        move |source| ApplyError::Api {
            step,
            object: key.to_string(),
            source: Box::new(source),
        }
    };
    let found = api.get_opt(&key.name).await.map_err(fail("read"))?;
    let Some(object) = found else {
        return Ok(None);
    };
    let before = object.data["status"]["conditions"].clone();
    let message = format!(
        "this version of Weir cannot read the object: {error}: correct the field, or upgrade the operator"
    );
    let now = context.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    let Some(conditions) = conditions(&before, &message, (object.metadata.generation, &now)) else {
        return Ok(None);
    };
    context.cluster.may_write().map_err(ApplyError::from)?;
    let patch = Patch::Merge(json!({"status": {"conditions": conditions}}));
    let params = PatchParams {
        field_manager: Some(MANAGER.into()),
        ..PatchParams::default()
    };
    let patched = api.patch_status(&key.name, &params, &patch);
    patched.await.map_err(fail("write the status of"))?;
    let about = object.object_ref(&resource);
    context.statuses.unreadable(&about, &message).await;
    Ok(None)
}

/// The conditions with a `Ready` that says `message`; `None` when they say it already.
fn conditions(
    before: &Value,
    message: &str,
    (generation, now): (Option<i64>, &str),
) -> Option<Vec<Value>> {
    let before = before.as_array().cloned().unwrap_or_default();
    let is_ready = |condition: &Value| condition["type"] == "Ready";
    let known = before.iter().find(|condition| is_ready(condition));
    let mut ready = json!({
        "type": "Ready", "status": "False", "reason": UNREADABLE, "message": message,
        "observedGeneration": generation, "lastTransitionTime": now,
    });
    if let Some(known) = known.filter(|known| known["status"] == "False") {
        ready["lastTransitionTime"] = known["lastTransitionTime"].clone();
    }
    if known == Some(&ready) {
        return None;
    }
    let others = before.iter().filter(|condition| !is_ready(condition));
    Some(std::iter::once(ready).chain(others.cloned()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_once_and_other_conditions_stay() {
        let before = json!([
            {"type": "Ready", "status": "True", "reason": "Serving", "message": "", "lastTransitionTime": "t0"},
            {"type": "Scaling", "status": "True"}
        ]);
        let after = conditions(&before, "bad", (Some(2), "t1")).unwrap();
        assert_eq!(after[0]["reason"], "Unreadable");
        assert_eq!(after[0]["lastTransitionTime"], "t1");
        assert_eq!(after[1]["type"], "Scaling");
        assert_eq!(
            conditions(&Value::from(after.clone()), "bad", (Some(2), "t9")),
            None
        );
        let other = conditions(&Value::from(after), "worse", (Some(3), "t9")).unwrap();
        assert_eq!(
            other[0]["lastTransitionTime"], "t1",
            "it was not ready before either"
        );
    }
}
