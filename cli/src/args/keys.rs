//! `weir keys` and its options.

use super::OfGateway;
use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Args)]
pub(crate) struct KeysArgs {
    #[command(subcommand)]
    pub(crate) command: KeysCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum KeysCommand {
    /// Make a key and print it, this once
    #[command(
        after_long_help = "Examples:\n  weir keys create support acme.laptop\n  \
        weir keys create support quality.judge --scopes judge -n demo\n  \
        WEIR_API_KEY=$(weir keys create support acme.first --output json | jq -r .key)\n\n\
        It opens within a second. The gateway's auth.apiKeysSecretRef says which Secret it goes into; one that is missing is made."
    )]
    Create(CreateKeyArgs),
    /// Show whose keys there are and what they allow, never the keys
    #[command(
        after_long_help = "Examples:\n  weir keys list support\n  weir keys list support -n demo --output json"
    )]
    List(OfGateway),
    /// Take a key away: it opens nothing any more, within a second
    #[command(after_long_help = "Example:\n  weir keys revoke support acme.laptop -n demo")]
    Revoke(RevokeKeyArgs),
}

#[derive(Debug, Args)]
pub(crate) struct CreateKeyArgs {
    #[command(flatten)]
    pub(crate) of: OfGateway,
    /// Whose key, and what it is called in logs
    #[arg(value_name = "TENANT.NAME", value_parser = key_name)]
    pub(crate) key: KeyName,
    /// What it allows
    #[arg(long, value_enum, value_delimiter = ',', default_value = "ask,memory")]
    pub(crate) scopes: Vec<ScopeWord>,
}

#[derive(Debug, Args)]
pub(crate) struct RevokeKeyArgs {
    #[command(flatten)]
    pub(crate) of: OfGateway,
    /// Whose key, and what it is called
    #[arg(value_name = "TENANT.NAME", value_parser = key_name)]
    pub(crate) key: KeyName,
}

/// A tenant and the name of one of its keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KeyName {
    pub(crate) tenant: String,
    pub(crate) key_id: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ScopeWord {
    /// Ask questions, give feedback, read one's own decisions
    Ask,
    /// Read and write the memory
    Memory,
    /// Read every tenant's decisions and label them
    Judge,
    /// All of it, for every tenant
    Admin,
}

fn key_name(text: &str) -> Result<KeyName, String> {
    match text.split('.').collect::<Vec<_>>().as_slice() {
        [tenant, key_id] if !tenant.is_empty() && !key_id.is_empty() => Ok(KeyName {
            tenant: (*tenant).to_owned(),
            key_id: (*key_id).to_owned(),
        }),
        _ => Err("write TENANT.NAME, for example acme.laptop".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_keys_name_has_a_tenant_and_one_name() {
        let read = key_name("acme.laptop").unwrap();
        assert_eq!(
            (read.tenant.as_str(), read.key_id.as_str()),
            ("acme", "laptop")
        );
        for wrong in ["acme", "acme.", ".laptop", "acme.laptop.ask", ""] {
            assert!(key_name(wrong).is_err(), "{wrong}");
        }
    }
}
