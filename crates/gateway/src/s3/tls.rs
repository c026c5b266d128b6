//! Speak TLS with a certificate of one's own.

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::TLS13,
};
use std::{path::Path, sync::Arc};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A chain has a handful.
const CERTIFICATES_MAX: usize = 16;

/// A certificate and its key, ready to be shown.
#[derive(Clone)]
pub struct Tls(TlsAcceptor);

/// Why a certificate cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("{at}: no certificates in PEM form: {why}")]
    Certificates { at: String, why: String },
    #[error("{at}: no private key in PEM form: {why}")]
    Key { at: String, why: String },
    #[error("certificate and key do not fit: {0}")]
    Pair(rustls::Error),
}

impl Tls {
    /// `certificates` holds one's own first, then those that vouch for it. TLS 1.3 alone.
    pub fn open(certificates: &Path, key: &Path) -> Result<Self, TlsError> {
        let wrong = |why: String| TlsError::Certificates { at: certificates.display().to_string(), why };
        let chain: Vec<_> = CertificateDer::pem_file_iter(certificates)
            .map_err(|error| wrong(error.to_string()))?
            .take(CERTIFICATES_MAX)
            .collect::<Result<_, _>>()
            .map_err(|error| wrong(error.to_string()))?;
        if chain.is_empty() {
            return Err(wrong("found none".into()));
        }
        let key = PrivateKeyDer::from_pem_file(key)
            .map_err(|error| TlsError::Key { at: key.display().to_string(), why: error.to_string() })?;
        let mut config = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_protocol_versions(&[&TLS13])
            .map_err(TlsError::Pair)?
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .map_err(TlsError::Pair)?;
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self(TlsAcceptor::from(Arc::new(config))))
    }

    pub(super) async fn accept(&self, socket: TcpStream) -> std::io::Result<TlsStream<TcpStream>> {
        self.0.accept(socket).await
    }
}
