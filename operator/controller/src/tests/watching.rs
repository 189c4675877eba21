//! What is asked for when the watches start.

use super::conversation::in_time;
use crate::cache::{Caches, OnChange, Scope};
use http::{Request, Response};
use kube::Client;
use kube::client::Body;
use std::collections::BTreeSet;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

/// First requests of all watches: nine kinds that Weir makes, its own five, three that others show, and one that may not exist.
const WATCHES: usize = 9 + 5 + 3 + 1;

/// A cluster with eight thousand Secrets of others costs no memory.
#[tokio::test]
async fn of_kinds_that_are_not_weirs_own_only_what_is_labelled_is_watched() {
    let (sender, mut asked) = mpsc::unbounded_channel();
    let service = tower::service_fn(move |request: Request<Body>| {
        let _ = sender.send(request.uri().to_string());
        std::future::pending::<Result<Response<Body>, Infallible>>()
    });
    let client = Client::new(service, "demo");
    let on_change: OnChange = Arc::new(|_| {});
    let mut tasks = JoinSet::new();
    let _caches = Caches::start(&client, &Scope::Cluster, &on_change, &mut tasks);
    let mut whole = BTreeSet::new();
    for _ in 0..WATCHES {
        let uri: String = in_time(asked.recv()).await.unwrap();
        let (path, query) = uri.split_once('?').unwrap();
        if !query.contains("labelSelector=") {
            whole.insert(path.rsplit('/').next().unwrap().to_owned());
        }
    }
    // Of the last one a single name is asked for, to see whether the cluster knows the kind.
    let expected = [
        "httproutes",
        "inferencegateways",
        "memorystores",
        "modelpools",
        "routerrollouts",
        "routerversions",
    ];
    assert_eq!(whole, BTreeSet::from(expected.map(str::to_owned)));
}
