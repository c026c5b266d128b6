//! Believe the certificates somebody names, also a server's own.
//!
//! What `openssl req -x509` makes for one server says that it is an authority's, and no verifier takes an authority's
//! certificate for a server's. Who names exactly this one means it: its name and its days are checked as ever.

use super::ForeignError;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme,
    client::{
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject as _},
    server::ParsedCertificate,
};
use rustls_platform_verifier::Verifier;
use std::sync::Arc;

/// How the verifier calls what is wrong with an authority's certificate that a server shows; days were looked at before.
const AUTHORITY: &str = "CaUsedAsEndEntity";

/// The machine's own judgement, and what was named besides.
#[derive(Debug)]
struct Named {
    machine: Verifier,
    named: Vec<CertificateDer<'static>>,
}

impl Named {
    fn new(pem: &[u8], provider: Arc<CryptoProvider>) -> Result<Self, ForeignError> {
        let wrong = ForeignError::Certificate;
        let named: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
        let named = named.map_err(|error| wrong(error.to_string()))?;
        if named.is_empty() {
            return Err(wrong("found none in PEM form".into()));
        }
        let machine = Verifier::new_with_extra_roots(named.iter().cloned(), provider);
        Ok(Self { machine: machine.map_err(|error| wrong(error.to_string()))?, named })
    }
}

impl ServerCertVerifier for Named {
    fn verify_server_cert(
        &self,
        own: &CertificateDer<'_>,
        others: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        match self.machine.verify_server_cert(own, others, name, ocsp, now) {
            Err(Error::InvalidCertificate(CertificateError::Other(why)))
                if why.to_string().contains(AUTHORITY) && self.named.iter().any(|one| one == own) =>
            {
                verify_server_name(&ParsedCertificate::try_from(own)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
            verdict => verdict,
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.machine.verify_tls12_signature(message, own, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.machine.verify_tls13_signature(message, own, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.machine.supported_verify_schemes()
    }
}

/// TLS as a client that believes this machine's authorities and the certificates in `pem`.
pub(super) fn believing(pem: &[u8]) -> Result<ClientConfig, ForeignError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = Named::new(pem, provider.clone())?;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| ForeignError::Certificate(error.to_string()))?;
    let mut config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier)).with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    /// Made by `openssl req -x509 -days 36500` for store.example, in November 2026.
    const OWN: &str = "\
-----BEGIN CERTIFICATE-----
MIIBoDCCAUegAwIBAgIUYiMP/eBHUMTBB8p9+kvUJWlWHwgwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNc3RvcmUuZXhhbXBsZTAgFw0yNjExMjMwNzM4MjdaGA8yMTI2
MTAzMDA3MzgyN1owGDEWMBQGA1UEAwwNc3RvcmUuZXhhbXBsZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABE2pJ6nEw/cUa+5EdiTjQvRLknYISMaZrZ1sheufBrA9
wX0kSTM102vkj9EHSTAH07OckCYhoabyHr4QcwBknv+jbTBrMB0GA1UdDgQWBBRR
Z0fhtDZ0yrAEqK+CKFYBG68EYjAfBgNVHSMEGDAWgBRRZ0fhtDZ0yrAEqK+CKFYB
G68EYjAPBgNVHRMBAf8EBTADAQH/MBgGA1UdEQQRMA+CDXN0b3JlLmV4YW1wbGUw
CgYIKoZIzj0EAwIDRwAwRAIgWrNdVNVq/mfL0BMGGDOuSsQc9saVa1M+ROHv03bM
4mgCIHqoZwbIFEbQaj1fosEfHaXMZLvTUcKenY90s/lrsl8N
-----END CERTIFICATE-----
";
    /// Of the same name, with another key.
    const OTHER: &str = "\
-----BEGIN CERTIFICATE-----
MIIBojCCAUegAwIBAgIUZ6lmE9LyXClbfYsmuXTq625LFTIwCgYIKoZIzj0EAwIw
GDEWMBQGA1UEAwwNc3RvcmUuZXhhbXBsZTAgFw0yNjExMjMwNzM4MjdaGA8yMTI2
MTAzMDA3MzgyN1owGDEWMBQGA1UEAwwNc3RvcmUuZXhhbXBsZTBZMBMGByqGSM49
AgEGCCqGSM49AwEHA0IABHvirgsj1MhwFedo7wED1xrzsfnXkmwaNQ+42FzGjFOk
VALcvoa6bXWv4M/pInoAZQb/Wq1LhgOzFS5iWGeWY4WjbTBrMB0GA1UdDgQWBBS2
8qUbm9ERR969alxIt6KeXCg9EjAfBgNVHSMEGDAWgBS28qUbm9ERR969alxIt6Ke
XCg9EjAPBgNVHRMBAf8EBTADAQH/MBgGA1UdEQQRMA+CDXN0b3JlLmV4YW1wbGUw
CgYIKoZIzj0EAwIDSQAwRgIhAMikyvg1DXYZ6lt4px96nSom08AqacMJrq7zXzYn
qWHqAiEA23S1YCQEm9w8xt0BXypuYk9/MlGVHm3E1d/ma1tv9zs=
-----END CERTIFICATE-----
";
    const YEAR_SECS: u64 = 365 * 24 * 3600;

    fn judged(named: &str, shown: &str, name: &'static str, years: u64) -> Result<(), Error> {
        let verifier = Named::new(named.as_bytes(), Arc::new(aws_lc_rs::default_provider())).unwrap();
        let shown = CertificateDer::from_pem_slice(shown.as_bytes()).unwrap();
        let name = ServerName::try_from(name).unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(years * YEAR_SECS));
        verifier.verify_server_cert(&shown, &[], &name, &[], now).map(drop)
    }

    #[test]
    fn a_server_s_own_certificate_is_believed_where_it_is_named() {
        assert_eq!(judged(OWN, OWN, "store.example", 60), Ok(()));
        assert_eq!(judged(&format!("{OTHER}{OWN}"), OWN, "store.example", 60), Ok(()));
        assert!(judged(OWN, OTHER, "store.example", 60).is_err(), "another key");
        assert!(judged(OTHER, OWN, "store.example", 60).is_err(), "another was named");
        for (name, years) in [("other.example", 60), ("store.example", 50), ("store.example", 200)] {
            assert!(judged(OWN, OWN, name, years).is_err(), "{name} {years} years after 1970");
        }
        assert!(believing(OWN.as_bytes()).is_ok());
        assert!(matches!(believing(b"nothing"), Err(ForeignError::Certificate(_))));
    }
}
