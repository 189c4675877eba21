//! Where the two servers are, and as whom they are asked.

use std::path::PathBuf;

use weir_plan::Secret;

/// Longest name of a collection: it is a part of labels and of a file on Qdrant's side.
const COLLECTION_MAX: usize = 63;

/// A memory in Qdrant and Neo4j.
#[derive(Clone, Debug)]
pub struct ExternalConfig {
    /// Name of the collection in Qdrant, of the labels in Neo4j, and so of the memory.
    pub collection: String,
    /// Length of every vector.
    pub dimensions: usize,
    /// Name of the model that makes the vectors.
    pub embedding_model: String,
    /// The vectors' server.
    pub qdrant: QdrantConfig,
    /// The graph's server.
    pub neo4j: Neo4jConfig,
}

/// How Qdrant is asked.
#[derive(Clone, Debug)]
pub struct QdrantConfig {
    /// `http://HOST:6334` or `https://HOST:6334`: the port of its gRPC.
    pub url: String,
    /// Sent with every call.
    pub api_key: Option<Secret>,
    /// File of the authorities, PEM, of which one signed its certificate. Without it, those of the system.
    pub ca: Option<PathBuf>,
}

/// How Neo4j is asked.
#[derive(Clone, Debug)]
pub struct Neo4jConfig {
    /// `bolt://HOST:7687` or `bolt+s://HOST:7687`.
    pub url: String,
    /// Whom the server knows.
    pub user: String,
    /// Its password.
    pub password: Secret,
    /// Name of the database; `None` is the server's default.
    pub database: Option<String>,
    /// File of the authorities, PEM, of which one signed its certificate. Without it, those of the system.
    pub ca: Option<PathBuf>,
}

/// What is wrong with a configuration. Names no credential.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// A name that is no part of a label.
    #[error(
        "the collection {0:?} must be a lower-case letter, then lower-case letters, digits and _, at most {COLLECTION_MAX} \
         of them: write for example kb"
    )]
    Collection(String),
    /// An address of Qdrant that cannot be used.
    #[error(
        "the address of Qdrant must be http://HOST:PORT or https://HOST:PORT of its gRPC, such as http://qdrant:6334"
    )]
    QdrantUrl,
    /// An address of Neo4j that cannot be used.
    #[error(
        "the address of Neo4j must be bolt://HOST:PORT or bolt+s://HOST:PORT (with TLS), such as bolt://neo4j:7687"
    )]
    Neo4jUrl,
    /// Authorities that nobody would be checked against.
    #[error(
        "authorities are given for {0}, whose address is without TLS: write https:// or bolt+s://, or leave them out"
    )]
    UselessAuthorities(&'static str),
    /// A file that cannot be used.
    #[error("the authorities of {server} cannot be read: {why}")]
    Authorities {
        /// Whose.
        server: &'static str,
        /// What the system said.
        why: String,
    },
    /// A vector length of zero.
    #[error("a memory needs vectors of at least 1 dimension")]
    NoDimensions,
}

impl ExternalConfig {
    /// Refuses what cannot work, before anybody is asked.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn check(&self) -> Result<(), ConfigError> {
        let mut letters = self.collection.bytes();
        let starts = letters.next().is_some_and(|byte| byte.is_ascii_lowercase());
        let goes_on =
            letters.all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
        if !starts || !goes_on || self.collection.len() > COLLECTION_MAX {
            return Err(ConfigError::Collection(self.collection.clone()));
        }
        if self.dimensions == 0 {
            return Err(ConfigError::NoDimensions);
        }
        let url = &self.qdrant.url;
        if !has_host(url, &["http://", "https://"]) {
            return Err(ConfigError::QdrantUrl);
        }
        if self.qdrant.ca.is_some() && !url.starts_with("https://") {
            return Err(ConfigError::UselessAuthorities("Qdrant"));
        }
        let url = &self.neo4j.url;
        if !has_host(url, &["bolt://", "bolt+s://"]) {
            return Err(ConfigError::Neo4jUrl);
        }
        if self.neo4j.ca.is_some() && !url.starts_with("bolt+s://") {
            return Err(ConfigError::UselessAuthorities("Neo4j"));
        }
        Ok(())
    }
}

/// Whether a URL has one of the schemes and a host, and no user, which belongs into a Secret.
fn has_host(url: &str, schemes: &[&str]) -> bool {
    let rest = schemes.iter().find_map(|scheme| url.strip_prefix(scheme));
    rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with(':') && !rest.contains('@'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> ExternalConfig {
        ExternalConfig {
            collection: "kb".into(),
            dimensions: 4,
            embedding_model: "m".into(),
            qdrant: QdrantConfig {
                url: "http://qdrant:6334".into(),
                api_key: None,
                ca: None,
            },
            neo4j: Neo4jConfig {
                url: "bolt://neo4j:7687".into(),
                user: "neo4j".into(),
                password: Secret::new("hidden"),
                database: None,
                ca: None,
            },
        }
    }

    #[test]
    fn what_cannot_work_is_refused_before_anybody_is_asked() {
        assert_eq!(config().check(), Ok(()));
        for name in ["", "Kb", "1kb", "k-b", "k`b", &"k".repeat(64)] {
            let mut wrong = config();
            wrong.collection = name.to_owned();
            assert_eq!(wrong.check(), Err(ConfigError::Collection(name.into())));
        }
        for url in [
            "qdrant:6334",
            "http://",
            "http://key@qdrant:6334",
            "bolt://qdrant:6334",
        ] {
            let mut wrong = config();
            wrong.qdrant.url = url.to_owned();
            assert_eq!(wrong.check(), Err(ConfigError::QdrantUrl), "{url}");
        }
        for url in [
            "neo4j://neo4j:7687",
            "bolt://u:p@neo4j",
            "http://neo4j:7474",
        ] {
            let mut wrong = config();
            wrong.neo4j.url = url.to_owned();
            assert_eq!(wrong.check(), Err(ConfigError::Neo4jUrl), "{url}");
        }
        let mut wrong = config();
        wrong.neo4j.ca = Some("ca.crt".into());
        assert_eq!(wrong.check(), Err(ConfigError::UselessAuthorities("Neo4j")));
        let mut wrong = config();
        wrong.qdrant.ca = Some("ca.crt".into());
        assert_eq!(
            wrong.check(),
            Err(ConfigError::UselessAuthorities("Qdrant"))
        );
        let mut wrong = config();
        wrong.dimensions = 0;
        assert_eq!(wrong.check(), Err(ConfigError::NoDimensions));
    }

    #[test]
    fn a_configuration_shows_no_password() {
        assert!(!format!("{:?}", config()).contains("hidden"));
    }
}
