//! Telling the operator how far a download is, while it goes on.
//!
//! Nobody waits for a report: one that is lost costs nothing, since the next one says more. Whether a report is believed is
//! the operator's business (`operator/controller/src/control/fetches.rs`); the download itself is `model.rs`.

use crate::args::ReportArgs;
use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use weir_models::Progress;
use weir_plan::chain;
use weir_proto::control::v1::FetchProgress;
use weir_proto::control::v1::control_client::ControlClient;

/// Reports are at least this far apart.
const EVERY: Duration = Duration::from_secs(2);
/// A report that takes longer is lost.
const TIMEOUT: Duration = Duration::from_secs(3);
/// Pings, so that an operator that is gone is left for another within one report.
const PING: Duration = Duration::from_secs(1);

/// Why nothing can be reported.
#[derive(Debug, thiserror::Error)]
enum ReportError {
    #[error("read {path}")]
    Ca { path: PathBuf, source: io::Error },
    #[error("use {url}")]
    Address {
        url: String,
        source: tonic::transport::Error,
    },
    #[error("no answer within {TIMEOUT:?}")]
    Slow,
    #[error("{}", said(.0))]
    Refused(tonic::Status),
}

/// Reports in the background; ends when it is dropped.
pub(crate) struct Report {
    newest: watch::Sender<Option<Progress>>,
    task: JoinHandle<()>,
}

impl Report {
    /// Begins, where the command line says to whom. What keeps it from beginning is said and stops nothing.
    pub(crate) fn start(args: &ReportArgs) -> Option<Self> {
        let client = match connect(args).transpose()? {
            Ok(client) => client,
            Err(error) => {
                say(&error);
                return None;
            }
        };
        let word = |word: &Option<String>| word.clone().unwrap_or_default();
        let who = FetchProgress {
            namespace: word(&args.pod_namespace),
            pool: word(&args.pool),
            pod: word(&args.pod),
            ..FetchProgress::default()
        };
        Some(Self::over(client, who))
    }

    fn over(client: ControlClient<Channel>, who: FetchProgress) -> Self {
        let (newest, progress) = watch::channel(None);
        let task = tokio::spawn(tell(client, who, progress));
        Self { newest, task }
    }

    /// Takes note of how far the download is.
    pub(crate) fn progress(&self, at: Progress) {
        self.newest.send_replace(Some(at));
    }
}

impl Drop for Report {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// A client that connects with its first call, and again after each that failed.
fn connect(args: &ReportArgs) -> Result<Option<ControlClient<Channel>>, ReportError> {
    let (Some(url), Some(path)) = (&args.report_to, &args.report_ca) else {
        return Ok(None);
    };
    let ca = std::fs::read(path).map_err(|source| ReportError::Ca {
        path: path.clone(),
        source,
    })?;
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
    let endpoint = Endpoint::from_shared(url.clone()).and_then(|endpoint| endpoint.tls_config(tls));
    let endpoint = endpoint.map_err(|source| ReportError::Address {
        url: url.clone(),
        source,
    })?;
    let endpoint = endpoint
        .connect_timeout(TIMEOUT)
        .http2_keep_alive_interval(PING)
        .keep_alive_timeout(PING);
    Ok(Some(ControlClient::new(endpoint.connect_lazy())))
}

async fn tell(
    mut client: ControlClient<Channel>,
    who: FetchProgress,
    mut progress: watch::Receiver<Option<Progress>>,
) {
    let mut first = None;
    let mut lost = 0_u32;
    while progress.changed().await.is_ok() {
        let Some(at) = *progress.borrow_and_update() else {
            continue;
        };
        let (began, here) = *first.get_or_insert((Instant::now(), at.downloaded));
        let report = FetchProgress {
            downloaded_bytes: at.downloaded,
            total_bytes: at.total.unwrap_or_default(),
            remaining_seconds: remaining(here, began.elapsed(), at),
            ..who.clone()
        };
        let sent = timeout(TIMEOUT, client.report_fetch(report)).await;
        match sent.map_err(|_| ReportError::Slow) {
            Ok(Ok(_)) => lost = 0,
            Ok(Err(status)) => lose(&mut lost, &ReportError::Refused(status)),
            Err(error) => lose(&mut lost, &error),
        }
        sleep(EVERY).await;
    }
}

/// Says once that reports get lost. A first one may come before the operator knows the pod's address, so that is no news.
fn lose(lost: &mut u32, error: &ReportError) {
    *lost = lost.saturating_add(1);
    if *lost == 2 {
        say(error);
    }
}

/// Begins like a line of progress, since the operator leaves those out when it says why a download failed.
fn say(error: &ReportError) {
    anstream::eprintln!(
        "downloaded bytes are not reported to the operator: {}",
        chain(error)
    );
}

/// What the operator answered, or what kept it from answering: the last cause, since those before it repeat each other.
fn said(status: &tonic::Status) -> String {
    let mut cause = status.source();
    while let Some(next) = cause.and_then(|cause| cause.source()) {
        cause = Some(next);
    }
    match cause {
        Some(cause) => format!("{}: {cause}", status.message()),
        None => status.message().to_owned(),
    }
}

/// Seconds until the end, by the speed since `here` bytes were there, `spent` ago; 0 while that is unknown.
fn remaining(here: u64, spent: Duration, at: Progress) -> u64 {
    let loaded = at.downloaded.saturating_sub(here);
    let (Some(total), true) = (at.total, loaded > 0) else {
        return 0;
    };
    let left = u128::from(total.saturating_sub(at.downloaded));
    let milliseconds = left * spent.as_millis() / u128::from(loaded);
    u64::try_from(milliseconds.div_ceil(1000)).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::stream::Empty;
    use tokio::sync::mpsc;
    use tonic::transport::server::TcpIncoming;
    use tonic::transport::{Identity, Server, ServerTlsConfig};
    use tonic::{Request, Response, Status, Streaming};
    use weir_proto::control::v1::control_server::{Control, ControlServer};
    use weir_proto::control::v1::{
        Artifact, FetchAcknowledged, GatewayMessage, GetArtifactRequest, OperatorMessage,
    };

    /// An operator that hears reports and knows nothing else.
    struct Heard(mpsc::UnboundedSender<FetchProgress>);

    #[tonic::async_trait]
    impl Control for Heard {
        type ConnectStream = Empty<Result<OperatorMessage, Status>>;

        async fn connect(
            &self,
            _: Request<Streaming<GatewayMessage>>,
        ) -> Result<Response<Self::ConnectStream>, Status> {
            Err(Status::unimplemented("reports only"))
        }

        async fn get_artifact(
            &self,
            _: Request<GetArtifactRequest>,
        ) -> Result<Response<Artifact>, Status> {
            Err(Status::unimplemented("reports only"))
        }

        async fn report_fetch(
            &self,
            request: Request<FetchProgress>,
        ) -> Result<Response<FetchAcknowledged>, Status> {
            let _ = self.0.send(request.into_inner());
            Ok(Response::new(FetchAcknowledged {}))
        }
    }

    fn who() -> FetchProgress {
        FetchProgress {
            namespace: "demo".into(),
            pool: "small".into(),
            pod: "small-engine-1".into(),
            ..FetchProgress::default()
        }
    }

    fn client(address: &str) -> ControlClient<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{address}")).unwrap();
        ControlClient::new(endpoint.connect_lazy())
    }

    #[tokio::test]
    async fn the_operator_hears_whose_download_is_how_far_and_of_many_steps_only_the_newest() {
        let own = rcgen::generate_simple_self_signed(vec!["localhost".into()]).unwrap();
        let identity = Identity::from_pem(own.cert.pem(), own.signing_key.serialize_pem());
        let ca = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(ca.path(), own.cert.pem()).unwrap();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let port = incoming.local_addr().unwrap().port();
        let (sender, mut heard) = mpsc::unbounded_channel();
        let server = Server::builder()
            .tls_config(ServerTlsConfig::new().identity(identity))
            .unwrap()
            .add_service(ControlServer::new(Heard(sender)));
        tokio::spawn(server.serve_with_incoming(incoming));
        let report = Report::start(&ReportArgs {
            report_to: Some(format!("https://localhost:{port}")),
            report_ca: Some(ca.path().to_owned()),
            pool: Some(who().pool),
            pod: Some(who().pod),
            pod_namespace: Some(who().namespace),
        });
        let report = report.unwrap();
        for downloaded in 0..=40 {
            let total = Some(100);
            report.progress(Progress { downloaded, total });
        }
        let first = timeout(Duration::from_secs(20), heard.recv()).await;
        let expected = FetchProgress {
            downloaded_bytes: 40,
            total_bytes: 100,
            ..who()
        };
        assert_eq!(first.unwrap().unwrap(), expected);
        assert!(heard.try_recv().is_err(), "one report in two seconds");
    }

    #[tokio::test]
    async fn a_download_never_waits_for_an_operator_that_does_not_answer() {
        // Connections are accepted by the kernel and never served.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = silent.local_addr().unwrap().to_string();
        let report = Report::over(client(&address), who());
        let began = Instant::now();
        for downloaded in 0..100_000 {
            let total = None;
            report.progress(Progress { downloaded, total });
            tokio::task::yield_now().await;
        }
        drop(report);
        assert!(began.elapsed() < TIMEOUT, "{:?}", began.elapsed());
    }

    #[test]
    fn what_was_there_before_counts_as_no_speed() {
        let at = |downloaded, total| Progress { downloaded, total };
        let spent = Duration::from_secs(10);
        assert_eq!(remaining(600, spent, at(700, Some(1000))), 30);
        assert_eq!(remaining(600, spent, at(600, Some(1000))), 0);
        assert_eq!(remaining(600, spent, at(700, None)), 0);
        assert_eq!(remaining(0, spent, at(1000, Some(1000))), 0);
    }
}
