//! The client of Qdrant: the calls that this memory makes, over gRPC, each under a deadline.
//!
//! The generated clients are used on a channel of our own, which takes authorities from a file and connects when it is
//! asked. Every call may be done twice, so a server that is busy or restarting is asked again a few times.

use std::collections::HashMap;
use std::time::Duration;

use qdrant_client::qdrant::collections_client::CollectionsClient;
use qdrant_client::qdrant::points_client::PointsClient;
use qdrant_client::qdrant::{
    CollectionExistsRequest, Condition, CountPoints, CreateCollection, CreateFieldIndexCollection,
    DeletePoints, Distance, FieldType, Filter, GetCollectionInfoRequest, GetPoints,
    KeywordIndexParams, Modifier, PayloadIndexParams, PointId, PointStruct, PointsSelector,
    QueryBatchPoints, QueryPoints, Range, RetrievedPoint, ScoredPoint, SparseVectorConfig,
    SparseVectorParams, UpsertPoints, VectorParams, VectorParamsMap, VectorsConfig, VectorsOutput,
    payload_index_params, points_selector, value, vector_output, vectors_config, vectors_output,
};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use weir_memory::NodeId;
use weir_plan::Secret;

use crate::config::{ConfigError, QdrantConfig};
use crate::error::{Server, StoreError};

/// Name of the vectors of texts.
pub(crate) const DENSE: &str = "text";

/// Name of the sparse vectors of words.
pub(crate) const WORDS: &str = "words";

/// Longest wait for an answer.
const DEADLINE: Duration = Duration::from_secs(10);

/// Longest wait for a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// How often a call is made at most.
const TRIES_MAX: u32 = 3;

/// Largest message: a batch of points with their vectors, or of candidates.
const MESSAGE_BYTES_MAX: usize = 64 << 20;

/// The client, for one collection.
pub(crate) struct Qdrant {
    channel: Channel,
    api_key: Option<Secret>,
    collection: String,
}

/// The collection as the server describes it.
pub(crate) struct Described {
    /// Length of a vector; `None` where there are none of our name.
    pub(crate) dimensions: Option<usize>,
    /// Whether words are kept with the server's own idf.
    pub(crate) has_words: bool,
}

/// A point to remove, unless it is newer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Gone {
    pub(crate) id: NodeId,
    pub(crate) version: i64,
}

impl Qdrant {
    /// Connects to nobody yet.
    pub(crate) fn new(config: &QdrantConfig, collection: &str) -> Result<Self, ConfigError> {
        let endpoint =
            Endpoint::from_shared(config.url.clone()).map_err(|_| ConfigError::QdrantUrl)?;
        let mut endpoint = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .keep_alive_while_idle(true)
            .http2_keep_alive_interval(Duration::from_secs(20));
        if config.url.starts_with("https://") {
            let unusable = |why: String| ConfigError::Authorities {
                server: "Qdrant",
                why,
            };
            let tls = ClientTlsConfig::new();
            let tls = match &config.ca {
                Some(ca) => {
                    let pem = std::fs::read(ca).map_err(|error| unusable(error.to_string()))?;
                    tls.ca_certificate(Certificate::from_pem(pem))
                }
                None => tls.with_native_roots(),
            };
            let secured = endpoint.tls_config(tls);
            endpoint = secured.map_err(|error| unusable(error.to_string()))?;
        }
        Ok(Self {
            channel: endpoint.connect_lazy(),
            api_key: config.api_key.clone(),
            collection: collection.to_owned(),
        })
    }

    /// What there is; `None` when the collection is not there.
    pub(crate) async fn describe(&self) -> Result<Option<Described>, StoreError> {
        let request = CollectionExistsRequest {
            collection_name: self.collection.clone(),
        };
        let call = |mut client: CollectionsClient<Channel>, request| async move {
            client.collection_exists(request).await
        };
        let there = self.collections("look for the collection", request, call);
        if !there.await?.result.is_some_and(|result| result.exists) {
            return Ok(None);
        }
        let request = GetCollectionInfoRequest {
            collection_name: self.collection.clone(),
        };
        let call = |mut client: CollectionsClient<Channel>, request| async move {
            client.get(request).await
        };
        let info = self.collections("describe the collection", request, call);
        let params = (info.await?.result)
            .and_then(|info| info.config)
            .and_then(|config| config.params)
            .unwrap_or_default();
        let vectors = params.vectors_config.and_then(|vectors| vectors.config);
        let dense = match vectors {
            Some(vectors_config::Config::ParamsMap(mut named)) => named.map.remove(DENSE),
            _ => None,
        };
        let sparse = params.sparse_vectors_config.unwrap_or_default().map;
        let words = sparse.get(WORDS).and_then(|words| words.modifier);
        Ok(Some(Described {
            dimensions: dense.map(|dense| usize::try_from(dense.size).unwrap_or(usize::MAX)),
            has_words: words == Some(Modifier::Idf.into()),
        }))
    }

    /// Makes the collection.
    pub(crate) async fn create(&self, dimensions: usize) -> Result<(), StoreError> {
        let dense = VectorParams {
            size: dimensions as u64,
            distance: Distance::Cosine.into(),
            ..VectorParams::default()
        };
        let words = SparseVectorParams {
            modifier: Some(Modifier::Idf.into()),
            ..SparseVectorParams::default()
        };
        let request = CreateCollection {
            collection_name: self.collection.clone(),
            vectors_config: Some(VectorsConfig {
                config: Some(vectors_config::Config::ParamsMap(VectorParamsMap {
                    map: HashMap::from([(DENSE.to_owned(), dense)]),
                })),
            }),
            sparse_vectors_config: Some(SparseVectorConfig {
                map: HashMap::from([(WORDS.to_owned(), words)]),
            }),
            ..CreateCollection::default()
        };
        let call = |mut client: CollectionsClient<Channel>, request| async move {
            client.create(request).await
        };
        self.collections("create the collection", request, call)
            .await
            .map(drop)
    }

    /// Makes the indexes by which filters are applied inside the search. Those that are there stay.
    pub(crate) async fn index_payload(&self) -> Result<(), StoreError> {
        for field in ["tenant", "type", "domain"] {
            let keyword = KeywordIndexParams {
                is_tenant: (field == "tenant").then_some(true),
                ..KeywordIndexParams::default()
            };
            let params = payload_index_params::IndexParams::KeywordIndexParams(keyword);
            let request = CreateFieldIndexCollection {
                collection_name: self.collection.clone(),
                wait: Some(true),
                field_name: field.to_owned(),
                field_type: Some(FieldType::Keyword.into()),
                field_index_params: Some(PayloadIndexParams {
                    index_params: Some(params),
                }),
                ..CreateFieldIndexCollection::default()
            };
            let call = |mut client: PointsClient<Channel>, request| async move {
                client.create_field_index(request).await
            };
            self.points("index the payload", request, call).await?;
        }
        Ok(())
    }

    /// Writes points, new or replaced, and waits until searches find them.
    pub(crate) async fn upsert(&self, points: Vec<PointStruct>) -> Result<(), StoreError> {
        if points.is_empty() {
            return Ok(());
        }
        let request = UpsertPoints {
            collection_name: self.collection.clone(),
            wait: Some(true),
            points,
            ..UpsertPoints::default()
        };
        let call = |mut client: PointsClient<Channel>, request| async move {
            client.upsert(request).await
        };
        self.points("write points", request, call).await.map(drop)
    }

    /// Removes points that are not newer than they are said to be, and waits until no search finds them.
    pub(crate) async fn remove(&self, gone: &[Gone]) -> Result<(), StoreError> {
        if gone.is_empty() {
            return Ok(());
        }
        let each = gone.iter().map(|gone| {
            let not_newer = Range {
                lte: Some(gone.version as f64),
                ..Range::default()
            };
            Condition::from(Filter::must([
                Condition::has_id([point_id(gone.id)]),
                Condition::range("version", not_newer),
            ]))
        });
        let selector = points_selector::PointsSelectorOneOf::Filter(Filter::should(each));
        let request = DeletePoints {
            collection_name: self.collection.clone(),
            wait: Some(true),
            points: Some(PointsSelector {
                points_selector_one_of: Some(selector),
            }),
            ..DeletePoints::default()
        };
        let call = |mut client: PointsClient<Channel>, request| async move {
            client.delete(request).await
        };
        self.points("remove points", request, call).await.map(drop)
    }

    /// The points that are there, with the vectors of their texts and their versions.
    pub(crate) async fn vectors(
        &self,
        ids: &[NodeId],
    ) -> Result<HashMap<NodeId, Point>, StoreError> {
        if ids.is_empty() {
            return Ok(HashMap::new());
        }
        let request = GetPoints {
            collection_name: self.collection.clone(),
            ids: ids.iter().map(|id| point_id(*id)).collect(),
            with_payload: Some(vec!["version"].into()),
            with_vectors: Some(vec![DENSE].into()),
            ..GetPoints::default()
        };
        let call =
            |mut client: PointsClient<Channel>, request| async move { client.get(request).await };
        let found = self.points("read vectors", request, call).await?.result;
        found.into_iter().map(retrieved).collect()
    }

    /// The answers of several searches, in their order.
    pub(crate) async fn query(
        &self,
        queries: Vec<QueryPoints>,
    ) -> Result<Vec<Vec<ScoredPoint>>, StoreError> {
        if queries.is_empty() {
            return Ok(Vec::new());
        }
        let wanted = queries.len();
        let collection_name = self.collection.clone();
        let query_points = queries.into_iter().map(|query| QueryPoints {
            collection_name: collection_name.clone(),
            ..query
        });
        let request = QueryBatchPoints {
            collection_name: self.collection.clone(),
            query_points: query_points.collect(),
            ..QueryBatchPoints::default()
        };
        let call = |mut client: PointsClient<Channel>, request| async move {
            client.query_batch(request).await
        };
        let answer = self.points("search", request, call).await?.result;
        match answer.len() == wanted {
            true => Ok(answer.into_iter().map(|one| one.result).collect()),
            false => Err(strange(
                "search",
                format!("{} of {wanted} answers", answer.len()),
            )),
        }
    }

    /// Points that pass a filter.
    pub(crate) async fn count(&self, filter: Option<Filter>) -> Result<u64, StoreError> {
        let request = CountPoints {
            collection_name: self.collection.clone(),
            filter,
            exact: Some(true),
            ..CountPoints::default()
        };
        let call =
            |mut client: PointsClient<Channel>, request| async move { client.count(request).await };
        let counted = self.points("count points", request, call).await?;
        Ok(counted.result.map_or(0, |result| result.count))
    }

    async fn points<T: Clone, R, F>(
        &self,
        what: &'static str,
        request: T,
        call: impl Fn(PointsClient<Channel>, Request<T>) -> F,
    ) -> Result<R, StoreError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let client = PointsClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        self.call(what, request, |request| call(client.clone(), request))
            .await
    }

    async fn collections<T: Clone, R, F>(
        &self,
        what: &'static str,
        request: T,
        call: impl Fn(CollectionsClient<Channel>, Request<T>) -> F,
    ) -> Result<R, StoreError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let client = CollectionsClient::new(self.channel.clone());
        self.call(what, request, |request| call(client.clone(), request))
            .await
    }

    async fn call<T: Clone, R, F>(
        &self,
        what: &'static str,
        body: T,
        call: impl Fn(Request<T>) -> F,
    ) -> Result<R, StoreError>
    where
        F: Future<Output = Result<Response<R>, Status>>,
    {
        let server = Server::Qdrant;
        let mut tries = 0;
        loop {
            let mut request = Request::new(body.clone());
            request.set_timeout(DEADLINE);
            if let Some(key) = &self.api_key {
                let key = key.expose().parse();
                let key = key.map_err(|_| StoreError::Credentials(server))?;
                request.metadata_mut().insert("api-key", key);
            }
            let status = match tokio::time::timeout(DEADLINE, call(request)).await {
                Ok(Ok(response)) => return Ok(response.into_inner()),
                Ok(Err(status)) => status,
                Err(_) => return Err(StoreError::Late { server, what }),
            };
            tries += 1;
            let busy = matches!(
                status.code(),
                Code::Unavailable | Code::Aborted | Code::ResourceExhausted
            );
            if !busy || tries >= TRIES_MAX {
                return Err(said(&status, what));
            }
            tokio::time::sleep(Duration::from_millis(25 << tries)).await;
        }
    }
}

/// The status in words without an address: of the server's own words only the code.
fn said(status: &Status, what: &'static str) -> StoreError {
    let server = Server::Qdrant;
    match status.code() {
        Code::Unauthenticated | Code::PermissionDenied => StoreError::Credentials(server),
        Code::Unavailable => StoreError::Away(server),
        Code::DeadlineExceeded => StoreError::Late { server, what },
        // A connection that broke in the middle has a cause; what the server itself answers has none.
        _ if std::error::Error::source(status).is_some() => StoreError::Away(server),
        code => StoreError::Refused {
            server,
            what,
            why: format!("{code:?}"),
        },
    }
}

fn strange(what: &'static str, why: String) -> StoreError {
    let server = Server::Qdrant;
    StoreError::Strange { server, what, why }
}

/// Version of a node's row when its point was written, and its vector.
pub(crate) type Point = (i64, Option<Vec<f32>>);

/// The id of a node's point.
pub(crate) fn point_id(id: NodeId) -> PointId {
    PointId::from(id.to_string())
}

/// The node of a point, and the version of its row when the point was written.
pub(crate) fn node_of(
    id: Option<&PointId>,
    payload: &HashMap<String, qdrant_client::qdrant::Value>,
) -> Result<(NodeId, i64), StoreError> {
    use qdrant_client::qdrant::point_id::PointIdOptions;
    let id = match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(PointIdOptions::Uuid(id)) => id.parse().ok(),
        _ => None,
    };
    let version = payload.get("version").and_then(|value| value.kind.as_ref());
    match (id, version) {
        (Some(id), Some(value::Kind::IntegerValue(version))) => Ok((id, *version)),
        _ => Err(strange(
            "read points",
            "a point without the id and the version of a node".to_owned(),
        )),
    }
}

fn retrieved(point: RetrievedPoint) -> Result<(NodeId, Point), StoreError> {
    let (id, version) = node_of(point.id.as_ref(), &point.payload)?;
    let dense = match named(point.vectors, DENSE) {
        Some(vector_output::Vector::Dense(dense)) => Some(dense.data),
        _ => None,
    };
    Ok((id, (version, dense)))
}

/// One of a point's vectors.
pub(crate) fn named(vectors: Option<VectorsOutput>, name: &str) -> Option<vector_output::Vector> {
    match vectors?.vectors_options? {
        vectors_output::VectorsOptions::Vectors(mut named) => {
            Some(named.vectors.remove(name)?.into_vector())
        }
        vectors_output::VectorsOptions::Vector(_) => None,
    }
}
