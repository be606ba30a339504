//! TLS of the door: a certificate and its key from files, checked before the door opens.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::{Certificate, PostgresError};

/// What clients that connect without the SSL request of PostgreSQL must name as protocol.
const PROTOCOL: &[u8] = b"postgresql";

/// Ready to speak TLS.
pub(super) struct Tls {
    pub(super) acceptor: TlsAcceptor,
    /// The certificate in PEM, to which SCRAM binds a password so that nobody in between can use it.
    pub(super) chain: Vec<u8>,
}

/// Reads both files.
pub(super) fn load(files: &Certificate) -> Result<Tls, PostgresError> {
    let (chain, key) = (read(&files.chain)?, read(&files.key)?);
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&chain).collect();
    let certificates = certificates.map_err(|error| unusable(&files.chain, error))?;
    if certificates.is_empty() {
        return Err(unusable(&files.chain, "it holds no certificate"));
    }
    let key = PrivateKeyDer::from_pem_slice(&key).map_err(|error| unusable(&files.key, error))?;
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|config| config.with_no_client_auth().with_single_cert(certificates, key));
    let mut config = config.map_err(|error| unusable(&files.key, error))?;
    config.alpn_protocols = vec![PROTOCOL.to_vec()];
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(config)), chain })
}

fn read(path: &Path) -> Result<Vec<u8>, PostgresError> {
    std::fs::read(path).map_err(|error| unusable(path, error))
}

fn unusable(path: &Path, reason: impl std::fmt::Display) -> PostgresError {
    PostgresError::Certificate { path: path.to_owned(), reason: reason.to_string() }
}
