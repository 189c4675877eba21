//! What `weir rollout` says when the API server says no.

use super::conversation::{call, conversation, in_time};
use crate::client::ClusterClient;
use http::{Method, StatusCode};
use weir_crds::RolloutAction;

const GATEWAY: &str = "/apis/weir.dev/v1alpha1/namespaces/demo/inferencegateways/support";

async fn said(status: StatusCode, reason: &str, message: &str) -> String {
    let refuses = call(Method::GET, GATEWAY).refuses(status, reason, message);
    let (client, calls) = conversation(vec![refuses]);
    let client = ClusterClient {
        client,
        namespace: "demo".into(),
    };
    let acted = in_time(client.act("support", RolloutAction::Pause)).await;
    calls.ended();
    acted.unwrap_err().to_string()
}

#[tokio::test]
async fn a_gateway_that_is_not_there_is_named_and_where_to_look() {
    let message = "inferencegateways.weir.dev \"support\" not found";
    let said = said(StatusCode::NOT_FOUND, "NotFound", message).await;
    assert_eq!(
        said,
        "there is no InferenceGateway support in namespace demo: kubectl get inferencegateways -n demo lists those that are there"
    );
}

#[tokio::test]
async fn a_refusal_is_told_in_the_api_servers_words_and_no_others() {
    let message =
        "inferencegateways.weir.dev \"support\" is forbidden: User \"ann\" cannot get resource";
    let said = said(StatusCode::FORBIDDEN, "Forbidden", message).await;
    assert_eq!(
        said,
        format!("read InferenceGateway support in namespace demo: {message}")
    );
}
