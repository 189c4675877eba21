//! A server in this process that speaks Qdrant's gRPC and compares every point: the client's path, batching, filters,
//! retries and errors are Qdrant's, the answers are exact.
//!
//! It refuses what Qdrant refuses, as far as this memory could ask for it, and what it does not know. It can be told to be
//! away, to be busy for some calls, or to be silent.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use ::qdrant_client::qdrant::collections_server::{Collections, CollectionsServer};
use ::qdrant_client::qdrant::points_server::{Points, PointsServer};
use ::qdrant_client::qdrant::*;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{Request, Response, Status};

/// Longest that a server takes to end.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the server holds and how it behaves; outlives the server.
#[derive(Default)]
pub(crate) struct Held {
    collections: Mutex<HashMap<String, Collection>>,
    /// Calls that are answered with `Unavailable`.
    pub(crate) busy: AtomicUsize,
    /// Whether calls are never answered.
    pub(crate) silent: AtomicBool,
    /// Calls so far.
    pub(crate) calls: AtomicUsize,
    /// The key that every call must carry.
    pub(crate) api_key: Mutex<Option<String>>,
}

#[derive(Clone, Default)]
pub(crate) struct Collection {
    size: u64,
    config: CollectionParams,
    pub(crate) indexes: BTreeSet<String>,
    pub(crate) points: BTreeMap<String, Point>,
}

#[derive(Clone)]
pub(crate) struct Point {
    pub(crate) payload: HashMap<String, Value>,
    dense: Option<Vec<f32>>,
    words: Vec<(u32, f32)>,
}

/// A running server; it ends when it is dropped.
pub(crate) struct QdrantServer {
    pub(crate) held: Arc<Held>,
    address: SocketAddr,
    /// Its own, so that connections end with it.
    serving: Option<Runtime>,
}

#[derive(Clone)]
struct Service(Arc<Held>);

impl QdrantServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut server = Self {
            held: Arc::default(),
            address: listener.local_addr().unwrap(),
            serving: None,
        };
        server.serve(listener);
        server
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Breaks every connection and takes no more.
    pub(crate) async fn stop(&mut self) {
        if let Some(serving) = self.serving.take() {
            let ended = tokio::task::spawn_blocking(|| serving.shutdown_timeout(PATIENCE));
            ended.await.unwrap();
        }
    }

    /// Listens again on the same port, with what it holds.
    pub(crate) async fn go_on(&mut self) {
        let listener = loop {
            match TcpListener::bind(self.address).await {
                Ok(listener) => break listener,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        self.serve(listener);
    }

    fn serve(&mut self, listener: TcpListener) {
        let service = Service(Arc::clone(&self.held));
        let large = 64 << 20;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = listener.into_std().unwrap();
        let serving = async move {
            let listener = TcpListener::from_std(listener).unwrap();
            tonic::transport::Server::builder()
                .add_service(
                    PointsServer::new(service.clone())
                        .max_decoding_message_size(large)
                        .max_encoding_message_size(large),
                )
                .add_service(CollectionsServer::new(service))
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        };
        // Dropped with the runtime, and the listener with it.
        drop(runtime.spawn(serving));
        self.serving = Some(runtime);
    }
}

impl Drop for QdrantServer {
    fn drop(&mut self) {
        if let Some(serving) = self.serving.take() {
            serving.shutdown_background();
        }
    }
}

impl Held {
    fn collections(&self) -> MutexGuard<'_, HashMap<String, Collection>> {
        self.collections.lock().unwrap()
    }

    /// A copy of a collection.
    pub(crate) fn collection(&self, name: &str) -> Option<Collection> {
        self.collections().get(name).cloned()
    }

    pub(crate) fn drop_collection(&self, name: &str) {
        self.collections().remove(name);
    }

    async fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.silent.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let busy = |left: usize| left.checked_sub(1);
        if self
            .busy
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, busy)
            .is_ok()
        {
            return Err(Status::unavailable("busy"));
        }
        let wanted = self.api_key.lock().unwrap().clone();
        let given = request.metadata().get("api-key");
        if wanted.is_some() && given.and_then(|key| key.to_str().ok()) != wanted.as_deref() {
            return Err(Status::unauthenticated("Invalid API key or JWT"));
        }
        Ok(request.into_inner())
    }

    fn with<T>(
        &self,
        name: &str,
        work: impl FnOnce(&mut Collection) -> Result<T, Status>,
    ) -> Result<T, Status> {
        let mut collections = self.collections();
        let collection = collections.get_mut(name);
        work(collection.ok_or_else(|| Status::not_found("Collection doesn't exist"))?)
    }
}

fn id_of(id: Option<&PointId>) -> Result<String, Status> {
    match id.and_then(|id| id.point_id_options.as_ref()) {
        Some(point_id::PointIdOptions::Uuid(id)) => Ok(id.clone()),
        other => Err(Status::invalid_argument(format!("no UUID: {other:?}"))),
    }
}

impl Collection {
    fn upsert(&mut self, point: PointStruct) -> Result<(), Status> {
        let id = id_of(point.id.as_ref())?;
        let Some(vectors::VectorsOptions::Vectors(named)) =
            point.vectors.and_then(|vectors| vectors.vectors_options)
        else {
            return Err(Status::invalid_argument("no named vectors"));
        };
        let mut fresh = Point {
            payload: point.payload,
            dense: None,
            words: Vec::new(),
        };
        for (name, vector) in named.vectors {
            match (name.as_str(), vector.vector) {
                ("text", Some(vector::Vector::Dense(dense))) => {
                    if dense.data.len() as u64 != self.size {
                        return Err(Status::invalid_argument(
                            "Wrong input: Vector dimension error",
                        ));
                    }
                    fresh.dense = Some(unit(&dense.data));
                }
                ("words", Some(vector::Vector::Sparse(sparse))) => {
                    let unique: BTreeSet<u32> = sparse.indices.iter().copied().collect();
                    if unique.len() != sparse.values.len() {
                        return Err(Status::invalid_argument("indices must be unique"));
                    }
                    let pairs = sparse.indices.into_iter().zip(sparse.values);
                    fresh.words = pairs.collect();
                    fresh.words.sort_by_key(|(index, _)| *index);
                }
                (name, _) => return Err(Status::invalid_argument(format!("vector {name}"))),
            }
        }
        self.points.insert(id, fresh);
        Ok(())
    }

    fn passing(&self, filter: Option<&Filter>) -> Result<Vec<(&String, &Point)>, Status> {
        let mut passing = Vec::new();
        for (id, point) in &self.points {
            if passes(filter, id, point)? {
                passing.push((id, point));
            }
        }
        Ok(passing)
    }

    fn query(&self, query: &QueryPoints) -> Result<Vec<ScoredPoint>, Status> {
        let passing = self.passing(query.filter.as_ref())?;
        let asked = query
            .query
            .as_ref()
            .and_then(|query| query.variant.as_ref());
        let Some(query::Variant::Nearest(VectorInput {
            variant: Some(input),
        })) = asked
        else {
            return Err(Status::invalid_argument("only nearest"));
        };
        let scored: Vec<(f32, &String, &Point)> = match (input, query.using.as_deref()) {
            (vector_input::Variant::Dense(dense), Some("text")) => {
                if dense.data.len() as u64 != self.size {
                    return Err(Status::invalid_argument(
                        "Wrong input: Vector dimension error",
                    ));
                }
                let asked = unit(&dense.data);
                let with = passing.into_iter().filter_map(|(id, point)| {
                    let own = point.dense.as_ref()?;
                    Some((own.iter().zip(&asked).map(|(a, b)| a * b).sum(), id, point))
                });
                with.collect()
            }
            (vector_input::Variant::Sparse(sparse), Some("words")) => {
                let asked: BTreeMap<u32, f32> = (sparse.indices.iter().copied())
                    .zip(sparse.values.iter().copied())
                    .collect();
                let idf = self.idf(asked.keys().copied());
                let with = passing.into_iter().filter_map(|(id, point)| {
                    let held = point
                        .words
                        .iter()
                        .filter(|(index, _)| asked.contains_key(index));
                    let mut held = held.peekable();
                    held.peek()?;
                    let of = |(index, weight): &(u32, f32)| asked[index] * weight * idf[index];
                    Some((held.map(of).sum(), id, point))
                });
                with.collect()
            }
            (_, using) => return Err(Status::invalid_argument(format!("using {using:?}"))),
        };
        let mut scored = scored;
        scored.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(b.1)));
        let limit = usize::try_from(query.limit.unwrap_or(10)).unwrap();
        scored.truncate(limit);
        let scored = scored.into_iter().map(|(score, id, point)| ScoredPoint {
            id: Some(id.as_str().into()),
            payload: query
                .with_payload
                .as_ref()
                .map_or_else(HashMap::new, |_| point.payload.clone()),
            score,
            vectors: query.with_vectors.as_ref().map(|_| point.output()),
            ..ScoredPoint::default()
        });
        Ok(scored.collect())
    }

    fn idf(&self, terms: impl Iterator<Item = u32>) -> HashMap<u32, f32> {
        let all = self.points.len() as f32;
        let of = |term: u32| {
            let holds = |point: &&Point| point.words.iter().any(|(index, _)| *index == term);
            let containing = self.points.values().filter(holds).count() as f32;
            let idf = ((all - containing + 0.5) / (containing + 0.5) + 1.0).ln();
            (term, idf)
        };
        terms.map(of).collect()
    }
}

impl Point {
    fn output(&self) -> VectorsOutput {
        let named = |vector| VectorOutput {
            vector: Some(vector),
            ..VectorOutput::default()
        };
        let words = SparseVector {
            indices: self.words.iter().map(|(index, _)| *index).collect(),
            values: self.words.iter().map(|(_, weight)| *weight).collect(),
        };
        let mut vectors = HashMap::from([(
            "words".to_owned(),
            named(vector_output::Vector::Sparse(words)),
        )]);
        if let Some(dense) = self.dense.clone() {
            let dense = vector_output::Vector::Dense(DenseVector { data: dense });
            vectors.insert("text".to_owned(), named(dense));
        }
        VectorsOutput {
            vectors_options: Some(vectors_output::VectorsOptions::Vectors(
                NamedVectorsOutput { vectors },
            )),
        }
    }
}

/// At length 1; one that has it stays as it is, as in Qdrant.
fn unit(vector: &[f32]) -> Vec<f32> {
    let norm = vector.iter().map(|value| value * value).sum::<f32>().sqrt();
    if (norm - 1.0).abs() < 1e-6 {
        return vector.to_vec();
    }
    vector.iter().map(|value| value / norm).collect()
}

fn passes(filter: Option<&Filter>, id: &str, point: &Point) -> Result<bool, Status> {
    let Some(filter) = filter else {
        return Ok(true);
    };
    if filter.min_should.is_some() {
        return Err(Status::invalid_argument("min_should"));
    }
    for condition in &filter.must {
        if !meets(condition, id, point)? {
            return Ok(false);
        }
    }
    for condition in &filter.must_not {
        if meets(condition, id, point)? {
            return Ok(false);
        }
    }
    for condition in &filter.should {
        if meets(condition, id, point)? {
            return Ok(true);
        }
    }
    Ok(filter.should.is_empty())
}

fn meets(condition: &Condition, id: &str, point: &Point) -> Result<bool, Status> {
    use condition::ConditionOneOf;
    match condition.condition_one_of.as_ref() {
        Some(ConditionOneOf::Filter(filter)) => passes(Some(filter), id, point),
        Some(ConditionOneOf::HasId(ids)) => {
            let ids = ids.has_id.iter().map(|id| id_of(Some(id)));
            Ok(ids
                .collect::<Result<Vec<_>, _>>()?
                .iter()
                .any(|one| one == id))
        }
        Some(ConditionOneOf::Field(field)) => {
            let held = point
                .payload
                .get(&field.key)
                .and_then(|value| value.kind.as_ref());
            let wanted = field
                .r#match
                .as_ref()
                .and_then(|wanted| wanted.match_value.as_ref());
            match (held, wanted, &field.range) {
                (None, ..) => Ok(false),
                (
                    Some(value::Kind::StringValue(held)),
                    Some(r#match::MatchValue::Keywords(wanted)),
                    None,
                ) => Ok(wanted.strings.contains(held)),
                (Some(value::Kind::IntegerValue(held)), None, Some(range)) => {
                    Ok(range.lte.is_none_or(|most| *held as f64 <= most))
                }
                other => Err(Status::invalid_argument(format!("{other:?}"))),
            }
        }
        other => Err(Status::invalid_argument(format!("{other:?}"))),
    }
}

fn done() -> Response<PointsOperationResponse> {
    Response::new(PointsOperationResponse {
        result: Some(UpdateResult {
            operation_id: Some(1),
            status: UpdateStatus::Completed.into(),
        }),
        ..PointsOperationResponse::default()
    })
}

/// Calls that this memory does not make, written as `async_trait` would, which does not look into a macro.
macro_rules! unknown {
    ($($name:ident: $request:ty => $response:ty,)*) => {
        $(fn $name<'life0, 'async_trait>(
            &'life0 self,
            _: Request<$request>,
        ) -> Pin<Box<dyn Future<Output = Result<Response<$response>, Status>> + Send + 'async_trait>>
        where
            'life0: 'async_trait,
            Self: 'async_trait,
        {
            Box::pin(async { Err(Status::unimplemented(stringify!($name))) })
        })*
    };
}

#[tonic::async_trait]
impl Points for Service {
    async fn upsert(
        &self,
        request: Request<UpsertPoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = self.0.admit(request).await?;
        self.0.with(&request.collection_name, |collection| {
            let mut points = request.points.into_iter();
            points.try_for_each(|point| collection.upsert(point))
        })?;
        Ok(done())
    }

    async fn delete(
        &self,
        request: Request<DeletePoints>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = self.0.admit(request).await?;
        let selector = request
            .points
            .and_then(|points| points.points_selector_one_of);
        let Some(points_selector::PointsSelectorOneOf::Filter(filter)) = selector else {
            return Err(Status::invalid_argument("only filters"));
        };
        self.0.with(&request.collection_name, |collection| {
            let gone = collection.passing(Some(&filter))?;
            let gone: Vec<String> = gone.into_iter().map(|(id, _)| id.clone()).collect();
            for id in gone {
                collection.points.remove(&id);
            }
            Ok(())
        })?;
        Ok(done())
    }

    async fn get(&self, request: Request<GetPoints>) -> Result<Response<GetResponse>, Status> {
        let request = self.0.admit(request).await?;
        let result = self.0.with(&request.collection_name, |collection| {
            let mut found = Vec::new();
            for id in &request.ids {
                if let Some(point) = collection.points.get(&id_of(Some(id))?) {
                    found.push(RetrievedPoint {
                        id: Some(id.clone()),
                        payload: point.payload.clone(),
                        vectors: Some(point.output()),
                        ..RetrievedPoint::default()
                    });
                }
            }
            Ok(found)
        })?;
        Ok(Response::new(GetResponse {
            result,
            ..GetResponse::default()
        }))
    }

    async fn create_field_index(
        &self,
        request: Request<CreateFieldIndexCollection>,
    ) -> Result<Response<PointsOperationResponse>, Status> {
        let request = self.0.admit(request).await?;
        self.0.with(&request.collection_name, |collection| {
            collection.indexes.insert(request.field_name);
            Ok(())
        })?;
        Ok(done())
    }

    async fn count(
        &self,
        request: Request<CountPoints>,
    ) -> Result<Response<CountResponse>, Status> {
        let request = self.0.admit(request).await?;
        let count = self.0.with(&request.collection_name, |collection| {
            Ok(collection.passing(request.filter.as_ref())?.len() as u64)
        })?;
        Ok(Response::new(CountResponse {
            result: Some(CountResult { count }),
            ..CountResponse::default()
        }))
    }

    async fn query_batch(
        &self,
        request: Request<QueryBatchPoints>,
    ) -> Result<Response<QueryBatchResponse>, Status> {
        let request = self.0.admit(request).await?;
        let result = self.0.with(&request.collection_name, |collection| {
            let queries = request.query_points.iter();
            let answer = |query| {
                Ok(BatchResult {
                    result: collection.query(query)?,
                })
            };
            queries.map(answer).collect::<Result<Vec<_>, Status>>()
        })?;
        Ok(Response::new(QueryBatchResponse {
            result,
            ..QueryBatchResponse::default()
        }))
    }

    unknown! {
        update_vectors: UpdatePointVectors => PointsOperationResponse,
        delete_vectors: DeletePointVectors => PointsOperationResponse,
        set_payload: SetPayloadPoints => PointsOperationResponse,
        overwrite_payload: SetPayloadPoints => PointsOperationResponse,
        delete_payload: DeletePayloadPoints => PointsOperationResponse,
        clear_payload: ClearPayloadPoints => PointsOperationResponse,
        delete_field_index: DeleteFieldIndexCollection => PointsOperationResponse,
        create_vector_name: CreateVectorNameRequest => PointsOperationResponse,
        delete_vector_name: DeleteVectorNameRequest => PointsOperationResponse,
        search: SearchPoints => SearchResponse,
        search_batch: SearchBatchPoints => SearchBatchResponse,
        search_groups: SearchPointGroups => SearchGroupsResponse,
        scroll: ScrollPoints => ScrollResponse,
        recommend: RecommendPoints => RecommendResponse,
        recommend_batch: RecommendBatchPoints => RecommendBatchResponse,
        recommend_groups: RecommendPointGroups => RecommendGroupsResponse,
        discover: DiscoverPoints => DiscoverResponse,
        discover_batch: DiscoverBatchPoints => DiscoverBatchResponse,
        update_batch: UpdateBatchPoints => UpdateBatchResponse,
        query: QueryPoints => QueryResponse,
        query_groups: QueryPointGroups => QueryGroupsResponse,
        facet: FacetCounts => FacetResponse,
        search_matrix_pairs: SearchMatrixPoints => SearchMatrixPairsResponse,
        search_matrix_offsets: SearchMatrixPoints => SearchMatrixOffsetsResponse,
    }
}

#[tonic::async_trait]
impl Collections for Service {
    async fn get(
        &self,
        request: Request<GetCollectionInfoRequest>,
    ) -> Result<Response<GetCollectionInfoResponse>, Status> {
        let request = self.0.admit(request).await?;
        let params = self.0.with(&request.collection_name, |collection| {
            Ok(collection.config.clone())
        })?;
        Ok(Response::new(GetCollectionInfoResponse {
            result: Some(CollectionInfo {
                config: Some(CollectionConfig {
                    params: Some(params),
                    ..CollectionConfig::default()
                }),
                ..CollectionInfo::default()
            }),
            ..GetCollectionInfoResponse::default()
        }))
    }

    async fn create(
        &self,
        request: Request<CreateCollection>,
    ) -> Result<Response<CollectionOperationResponse>, Status> {
        let request = self.0.admit(request).await?;
        let mut collections = self.0.collections();
        if collections.contains_key(&request.collection_name) {
            return Err(Status::already_exists("Collection already exists"));
        }
        let vectors = request
            .vectors_config
            .clone()
            .and_then(|vectors| vectors.config);
        let size = match vectors {
            Some(vectors_config::Config::ParamsMap(named)) => {
                named.map.get("text").map_or(0, |params| params.size)
            }
            Some(vectors_config::Config::Params(params)) => params.size,
            None => 0,
        };
        let collection = Collection {
            size,
            config: CollectionParams {
                vectors_config: request.vectors_config,
                sparse_vectors_config: request.sparse_vectors_config,
                ..CollectionParams::default()
            },
            ..Collection::default()
        };
        collections.insert(request.collection_name, collection);
        Ok(Response::new(CollectionOperationResponse {
            result: true,
            ..CollectionOperationResponse::default()
        }))
    }

    async fn collection_exists(
        &self,
        request: Request<CollectionExistsRequest>,
    ) -> Result<Response<CollectionExistsResponse>, Status> {
        let request = self.0.admit(request).await?;
        let exists = self.0.collections().contains_key(&request.collection_name);
        Ok(Response::new(CollectionExistsResponse {
            result: Some(CollectionExists { exists }),
            ..CollectionExistsResponse::default()
        }))
    }

    unknown! {
        list: ListCollectionsRequest => ListCollectionsResponse,
        update: UpdateCollection => CollectionOperationResponse,
        delete: DeleteCollection => CollectionOperationResponse,
        update_aliases: ChangeAliases => CollectionOperationResponse,
        list_collection_aliases: ListCollectionAliasesRequest => ListAliasesResponse,
        list_aliases: ListAliasesRequest => ListAliasesResponse,
        collection_cluster_info: CollectionClusterInfoRequest => CollectionClusterInfoResponse,
        update_collection_cluster_setup: UpdateCollectionClusterSetupRequest => UpdateCollectionClusterSetupResponse,
        create_shard_key: CreateShardKeyRequest => CreateShardKeyResponse,
        delete_shard_key: DeleteShardKeyRequest => DeleteShardKeyResponse,
        list_shard_keys: ListShardKeysRequest => ListShardKeysResponse,
    }
}
