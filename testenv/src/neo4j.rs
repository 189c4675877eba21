//! A Neo4j server of the test's own: started on a free port, ended and removed with the test's process.
//!
//! It listens when it is handed out; its first query still takes a second or two, so a test waits with a query. Which jars
//! it is made of is in `neo4j/pom.xml`.

use crate::llama_server::free_address;
use crate::{component, program};
use std::io::Write;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest wait for a server that starts.
const PATIENCE: Duration = Duration::from_secs(180);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(100);

/// Runs the server until the other end of its input says `keep` or is closed, as it is with the test's process however that
/// ends: then the server's folder goes too. The number of the server's process goes to the output.
const KEEPER: &str = r#"
"$@" >>"$HOME_OF_SERVER/console.log" 2>&1 &
echo $!
read -r keep
kill -9 $!
wait $!
[ "$keep" = keep ] || rm -rf "$HOME_OF_SERVER"
"#;

/// A running server.
#[derive(Debug)]
pub struct Neo4j {
    java: PathBuf,
    jars: PathBuf,
    home: PathBuf,
    port: u16,
    keeper: Option<(Child, u32)>,
}

impl Neo4j {
    /// The one user.
    pub const USER: &'static str = "neo4j";
    /// Its password.
    pub const PASSWORD: &'static str = "test-of-weir";

    /// An empty server, or nothing where Java or the jars are absent.
    ///
    /// # Panics
    /// They are absent and required, or the server does not start.
    pub fn start() -> Option<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let (java, jars) = (program("java")?, component("neo4j/lib")?);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let name = format!("weir-neo4j-{}-{number}", std::process::id());
        let mut server = Self {
            java,
            jars,
            home: std::env::temp_dir().join(name),
            port: free_address().port(),
            keeper: None,
        };
        server.configure();
        server.run();
        Some(server)
    }

    /// Where it listens.
    pub fn url(&self) -> String {
        format!("bolt://127.0.0.1:{}", self.port)
    }

    /// Ends it without a warning. What it committed is there after [`Neo4j::run`].
    pub fn kill(&mut self) {
        self.end("keep\n");
    }

    fn end(&mut self, last_words: &str) {
        if let Some((mut keeper, _)) = self.keeper.take() {
            if let Some(mut input) = keeper.stdin.take() {
                let _ = input.write_all(last_words.as_bytes());
            }
            let _ = keeper.wait();
        }
    }

    /// Stops it, so that it keeps its connections and says nothing.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    /// Starts it again on the same port with what it holds.
    ///
    /// # Panics
    /// It does not start.
    pub fn run(&mut self) {
        let mut command = Command::new("sh");
        command
            .args(["-c", KEEPER, "keeper"])
            .arg(&self.java)
            .args(["-Xms256m", "-Xmx512m", "-XX:+UseSerialGC"])
            .args(["-XX:+ExitOnOutOfMemoryError", "-Dlog4j2.disable.jmx=true"])
            .args(["--add-opens=java.base/java.nio=ALL-UNNAMED"])
            .args(["--add-opens=java.base/sun.nio.ch=ALL-UNNAMED"])
            .arg("-cp")
            .arg(self.class_path())
            .arg("org.neo4j.server.CommunityEntryPoint")
            .arg(format!("--home-dir={}", self.home.display()))
            .arg(format!("--config-dir={}", self.home.display()))
            .arg("--console-mode")
            .env("HOME_OF_SERVER", &self.home)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut keeper = command.spawn().expect("this machine has a shell");
        let mut output = keeper.stdout.take().expect("the output is piped");
        let mut line = String::new();
        let mut reader = std::io::BufReader::new(&mut output);
        std::io::BufRead::read_line(&mut reader, &mut line).expect("the keeper says a number");
        let number = line.trim().parse().expect("the keeper says a number");
        self.keeper = Some((keeper, number));
        self.wait_until_it_listens();
    }

    fn class_path(&self) -> String {
        format!("{}/*", self.jars.display())
    }

    fn configure(&self) {
        std::fs::create_dir_all(&self.home).expect("the folder for temporary files is writable");
        let settings = [
            "server.bolt.enabled=true",
            &format!("server.bolt.listen_address=127.0.0.1:{}", self.port),
            &format!("server.bolt.advertised_address=127.0.0.1:{}", self.port),
            "server.http.enabled=false",
            "server.https.enabled=false",
            "dbms.usage_report.enabled=false",
            "server.memory.pagecache.size=64m",
            "db.tx_log.rotation.size=16m",
            "db.tx_log.rotation.retention_policy=1 files",
        ];
        let path = self.home.join("neo4j.conf");
        let mut file = std::fs::File::create(path).expect("a file in a folder that was just made");
        for setting in settings {
            writeln!(file, "{setting}").expect("a file in a folder that was just made");
        }
        let set = Command::new(&self.java)
            .args(["-Xmx128m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg("-cp")
            .arg(self.class_path())
            .args(["org.neo4j.cli.AdminTool", "dbms", "set-initial-password"])
            .arg(Self::PASSWORD)
            .env("NEO4J_HOME", &self.home)
            .env("NEO4J_CONF", &self.home)
            .stdin(Stdio::null())
            .output()
            .expect("java can be started");
        let said = String::from_utf8_lossy(&set.stderr);
        assert!(set.status.success(), "neo4j takes no password: {said}");
    }

    fn signal(&self, signal: &str) {
        if let Some((_, number)) = &self.keeper {
            let mut kill = Command::new("kill");
            let sent = kill.args([signal, &number.to_string()]).status();
            assert!(sent.is_ok_and(|status| status.success()));
        }
    }

    fn wait_until_it_listens(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            let log = || tail(&self.home.join("console.log"));
            let number = self.keeper.as_ref().map_or(0, |(_, number)| *number);
            let runs = Path::new(&format!("/proc/{number}")).exists();
            assert!(runs, "neo4j ended at start: {}", log());
            assert!(
                Instant::now() < deadline,
                "neo4j did not listen after {PATIENCE:?}: {}",
                log()
            );
            std::thread::sleep(PAUSE);
        }
    }
}

impl Drop for Neo4j {
    fn drop(&mut self) {
        self.end("");
    }
}

fn tail(path: &Path) -> String {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines: Vec<&str> = text.lines().rev().take(10).collect();
    lines.into_iter().rev().collect::<Vec<_>>().join("\n")
}
