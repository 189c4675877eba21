//! Certificates as the operator issues them.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    SanType,
};
use std::path::Path;

/// A certificate authority of its own.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, as PEM.
pub(crate) struct Identity {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// The operator's own, for `localhost`.
    pub(crate) fn server(&self) -> Identity {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.issue(&params)
    }

    /// A gateway's.
    pub(crate) fn client(&self) -> Identity {
        let mut params = CertificateParams::default();
        let name = "weir://stack/gateway/support".try_into().unwrap();
        params.subject_alt_names = vec![SanType::URI(name)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.issue(&params)
    }

    fn issue(&self, params: &CertificateParams) -> Identity {
        let key = KeyPair::generate().unwrap();
        Identity {
            certificate: params.signed_by(&key, &self.0).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }
}

/// Fills a folder as the mounted Secret does.
pub(crate) fn mount(folder: &Path, trusted: &Authority, identity: &Identity) {
    std::fs::create_dir_all(folder).unwrap();
    for (name, pem) in [
        ("ca.crt", &trusted.pem()),
        ("tls.crt", &identity.certificate),
        ("tls.key", &identity.key),
    ] {
        std::fs::write(folder.join(name), pem).unwrap();
    }
}
