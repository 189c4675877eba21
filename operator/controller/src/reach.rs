//! Whether external engines answer: each is asked now and then for the list of its models, with the key and the authorities
//! that requests have. No prompt goes there, and no token is spent.
//!
//! A pool is looked at as soon as its reconcile asks what is known of its server, again whenever that is another server or
//! another key, and every twenty seconds, so that its condition turns within half a minute of a failure. A change puts the pool into the queue;
//! the status is written there. Only pools that this process reconciles are looked at, so that of several operators one asks.

use crate::cache::{Caches, get};
use crate::key::Key;
use crate::outside::{self, says};
use crate::queue::Queue;
use futures_util::StreamExt;
use reqwest::redirect::Policy;
use reqwest::{Client, ClientBuilder, Response, StatusCode};
use serde::Deserialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use weir_reconcile::model_pool::{Reach, Server};

/// How often each pool is looked at.
const EVERY: Duration = Duration::from_secs(20);
/// How often it is looked for pools that are due.
const TICK: Duration = Duration::from_millis(250);
/// Longest wait for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Servers asked at the same time.
const CONCURRENT: usize = 32;
/// Longest list of models that is read.
const LIST_MAX: usize = 1 << 20;
/// Names of other models that a message shows.
const SHOWN: usize = 3;

/// What was found out, by pool.
pub(crate) struct Reaches {
    looks: Mutex<HashMap<Key, Look>>,
    /// Believes the public authorities.
    public: Client,
}

/// The server of one pool, and what the last look at it found.
struct Look {
    server: Server,
    reach: Reach,
    /// `None` before the first one.
    at: Option<Instant>,
}

/// The part of a list of models that is read.
#[derive(Deserialize)]
struct Models {
    data: Vec<Model>,
}

#[derive(Deserialize)]
struct Model {
    id: String,
}

impl Reaches {
    pub(crate) fn new() -> reqwest::Result<Self> {
        Ok(Self {
            looks: Mutex::default(),
            public: client().build()?,
        })
    }

    /// What is known of a pool's server; one of which nothing is known is looked at soon.
    pub(crate) fn of(&self, key: &Key, server: &Server) -> Reach {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        match looks.get(key) {
            Some(look) if look.server == *server => look.reach.clone(),
            _ => {
                let look = Look {
                    server: server.clone(),
                    reach: Reach::Unknown,
                    at: None,
                };
                looks.insert(key.clone(), look);
                Reach::Unknown
            }
        }
    }

    /// Looks at the servers of all pools again and again until `stop`.
    pub(crate) async fn run(
        self: Arc<Self>,
        caches: Arc<Caches>,
        queue: Arc<Queue>,
        stop: CancellationToken,
    ) {
        loop {
            let is_there = |key: &Key| get(&caches.pools, &key.namespace, &key.name).is_some();
            let looks = self.due(is_there).into_iter().map(|(key, server)| {
                let (reaches, queue) = (self.clone(), queue.clone());
                async move {
                    if reaches.look(&key, &server).await {
                        queue.add(key);
                    }
                }
            });
            let all =
                futures_util::stream::iter(looks).for_each_concurrent(CONCURRENT, |look| look);
            tokio::select! {
                () = stop.cancelled() => return,
                () = all => {}
            }
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(TICK) => {}
            }
        }
    }

    /// Servers that were not looked at lately. Forgets those whose pools are gone.
    fn due(&self, is_there: impl Fn(&Key) -> bool) -> Vec<(Key, Server)> {
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        looks.retain(|key, _| is_there(key));
        let due = looks.iter().filter(|(_, look)| {
            let ago = look.at.map(|at| at.elapsed());
            ago.is_none_or(|ago| ago >= EVERY)
        });
        due.map(|(key, look)| (key.clone(), look.server.clone()))
            .collect()
    }

    /// Looks at one server now; true when what was found is news.
    async fn look(&self, key: &Key, server: &Server) -> bool {
        let found = self.ask(server).await;
        let mut looks = self.looks.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(look) = looks.get_mut(key).filter(|look| look.server == *server) else {
            return false;
        };
        look.at = Some(Instant::now());
        let is_news = look.reach != found;
        look.reach = found;
        is_news
    }

    async fn ask(&self, server: &Server) -> Reach {
        match self.answer(server).await {
            Ok(answer) => read(server, answer).await,
            Err(error) => Reach::Unreachable(says(&error)),
        }
    }

    async fn answer(&self, server: &Server) -> reqwest::Result<Response> {
        let client = match &server.authorities {
            None => self.public.clone(),
            Some(authorities) => {
                let alone = client().tls_built_in_root_certs(false);
                outside::believing(alone, authorities)?.build()?
            }
        };
        let mut request = client.get(format!("{}/v1/models", server.endpoint.url));
        if let Some(key) = &server.endpoint.api_key {
            request = request.bearer_auth(key.expose());
        }
        request.send().await
    }
}

/// A client that asks as gateways do: directly, and nobody else than it was told to.
fn client() -> ClientBuilder {
    Client::builder()
        .no_proxy()
        .redirect(Policy::none())
        .pool_max_idle_per_host(0)
        .timeout(TIMEOUT)
}

/// What an answer says. A server that lists no models, or lists them in another way, is as good as one that does.
async fn read(server: &Server, answer: Response) -> Reach {
    match answer.status() {
        status @ (StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => {
            Reach::KeyRefused(status.as_u16())
        }
        status if status.is_server_error() => Reach::Failing(status.as_u16()),
        StatusCode::OK => match list(answer).await {
            Some(models) => named(&server.model, models),
            None => Reach::Reachable,
        },
        _ => Reach::Reachable,
    }
}

/// The models of a list.
async fn list(answer: Response) -> Option<Vec<String>> {
    let bytes = outside::body(answer, LIST_MAX).await.ok()??;
    let models: Models = serde_json::from_slice(&bytes).ok()?;
    Some(models.data.into_iter().map(|model| model.id).collect())
}

fn named(model: &str, mut others: Vec<String>) -> Reach {
    if others.is_empty() || others.iter().any(|other| other == model) {
        return Reach::Reachable;
    }
    others.truncate(SHOWN);
    Reach::NotListed(others)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Kind;
    use axum::Router;
    use axum::http::HeaderMap;
    use axum::response::IntoResponse;
    use tokio::net::TcpListener;
    use weir_plan::{Endpoint, Secret};

    fn key() -> Key {
        Key::new(Kind::ModelPool, "demo", "away")
    }

    fn server(url: &str) -> Server {
        Server {
            endpoint: Endpoint::keyless(url),
            authorities: None,
            model: "small".into(),
        }
    }

    /// A server that answers every request in this way, at the address that is given back.
    async fn serve<F, R>(answer: F) -> String
    where
        F: Fn(HeaderMap) -> R + Clone + Send + Sync + 'static,
        R: IntoResponse + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/base", listener.local_addr().unwrap());
        let answer = move |headers: HeaderMap| {
            let answer = answer.clone();
            async move { answer(headers) }
        };
        let routes = Router::new().route("/base/v1/models", axum::routing::get(answer));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        url
    }

    async fn found(server: &Server) -> Reach {
        Reaches::new().unwrap().ask(server).await
    }

    #[tokio::test(start_paused = true)]
    async fn a_new_server_is_due_at_once_and_a_known_one_after_a_while() {
        let reaches = Reaches::new().unwrap();
        let due = || reaches.due(|_| true).into_iter().map(|(_, server)| server);
        let looked_at = |server: &Server| {
            let mut looks = reaches.looks.lock().unwrap();
            let look = looks.get_mut(&key()).unwrap();
            assert_eq!(look.server, *server);
            (look.at, look.reach) = (Some(Instant::now()), Reach::Reachable);
        };
        let (a, b) = (server("http://a"), server("http://b"));
        assert_eq!(due().count(), 0, "nobody asked for one");
        assert_eq!(reaches.of(&key(), &a), Reach::Unknown);
        assert!(due().eq([a.clone()]));
        looked_at(&a);
        assert_eq!(reaches.of(&key(), &a), Reach::Reachable);
        assert_eq!(due().count(), 0);
        assert_eq!(reaches.of(&key(), &b), Reach::Unknown, "it moved");
        assert!(due().eq([b.clone()]));
        looked_at(&b);
        tokio::time::advance(EVERY).await;
        assert!(due().eq([b.clone()]));
        assert_eq!(reaches.due(|_| false), []);
        assert_eq!(reaches.of(&key(), &b), Reach::Unknown, "it is forgotten");
    }

    #[tokio::test]
    async fn what_a_look_finds_is_news_once_and_no_news_of_another_server() {
        let url = serve(|_| r#"{"data": []}"#).await;
        let reaches = Reaches::new().unwrap();
        let here = server(&url);
        assert!(!reaches.look(&key(), &here).await, "nobody asks");
        reaches.of(&key(), &here);
        assert!(reaches.look(&key(), &here).await);
        assert!(!reaches.look(&key(), &here).await);
        assert_eq!(reaches.of(&key(), &here), Reach::Reachable);
        reaches.of(&key(), &server("http://127.0.0.1:1"));
        assert!(!reaches.look(&key(), &here).await, "it moved meanwhile");
    }

    #[tokio::test]
    async fn a_server_is_asked_with_the_key_of_its_pool() {
        let url = serve(|headers| match headers.get("authorization") {
            Some(key) if key == "Bearer opens" => StatusCode::OK,
            _ => StatusCode::UNAUTHORIZED,
        })
        .await;
        let mut server = server(&url);
        assert_eq!(found(&server).await, Reach::KeyRefused(401));
        server.endpoint.api_key = Some(Secret::new("opens"));
        assert_eq!(found(&server).await, Reach::Reachable);
    }

    #[tokio::test]
    async fn what_a_server_answers_says_whether_it_can_be_asked() {
        let others = || ["a", "b", "c"].map(str::to_owned).to_vec();
        for (status, body, expected) in [
            (
                200,
                r#"{"data": [{"id": "big"}, {"id": "small"}]}"#,
                Reach::Reachable,
            ),
            (
                200,
                r#"{"data": [{"id": "a"}, {"id": "b"}, {"id": "c"}, {"id": "d"}]}"#,
                Reach::NotListed(others()),
            ),
            (200, r#"{"data": []}"#, Reach::Reachable),
            (200, r#"["small"]"#, Reach::Reachable),
            (404, "no such page", Reach::Reachable),
            (429, "later", Reach::Reachable),
            (302, "", Reach::Reachable),
            (403, "{}", Reach::KeyRefused(403)),
            (503, "loading", Reach::Failing(503)),
        ] {
            let status = StatusCode::from_u16(status).unwrap();
            let headers = [("location", "http://127.0.0.1:1/")];
            let url = serve(move |_| (status, headers, body)).await;
            assert_eq!(found(&server(&url)).await, expected, "{status} {body}");
        }
    }

    #[tokio::test]
    async fn a_list_without_end_is_not_read_to_the_end() {
        let long = format!(r#"{{"data": [{{"id": "{}"}}]}}"#, "x".repeat(LIST_MAX));
        let url = serve(move |_| long.clone()).await;
        assert_eq!(found(&server(&url)).await, Reach::Reachable);
    }

    #[tokio::test]
    async fn why_a_server_is_not_reached_is_told_without_its_key() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let mut away = server(&format!("http://{address}"));
        away.endpoint.api_key = Some(Secret::new("hidden"));
        let Reach::Unreachable(why) = found(&away).await else {
            panic!("nobody listens there");
        };
        assert!(why.contains("refused") && !why.contains("hidden"), "{why}");
    }
}
