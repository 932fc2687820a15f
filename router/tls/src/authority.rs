//! The box's own certificate authority: two files, made once.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use data_encoding::HEXLOWER;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, date_time_ymd,
};
use rustls::crypto::aws_lc_rs::sign::any_ecdsa_type;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;

use crate::TlsError;
use crate::names::{Names, constraints};

const KEY: &str = "authority.key";
const CERTIFICATE: &str = "authority.crt";
/// Years in which the authority is valid: fixed, so that a box whose clock is wrong has the same one.
const YEARS: (i32, i32) = (2025, 2055);
/// How long a certificate of the server holds. Devices refuse those of more than 397 days.
pub(crate) const VALID: Duration = Duration::from_secs(90 * 24 * 3600);
/// A device whose clock is behind takes a certificate all the same.
const CLOCKS_DIFFER: Duration = Duration::from_secs(24 * 3600);
/// Bytes of the digest of the authority's key in its name, so that two boxes' are told apart.
const MARK_BYTES: usize = 4;

/// What vouches for the box on devices that were told to trust it.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    /// Opens the authority in a folder; makes it where there is none.
    ///
    /// # Errors
    /// [`TlsError`] when a file cannot be read or written, or is damaged.
    pub fn open(folder: &Path) -> Result<Self, TlsError> {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(TlsError::file(folder))?;
        let (key_path, certificate_path) = (folder.join(KEY), folder.join(CERTIFICATE));
        let damaged = |path: &Path| TlsError::Damaged { path: path.to_owned() };
        let key = match read(&key_path)? {
            Some(text) => KeyPair::from_pem(&text).map_err(|_| damaged(&key_path))?,
            None => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)?;
                write(&key_path, &key.serialize_pem())?;
                key
            }
        };
        let params = params(&key);
        let certificate = match read(&certificate_path)? {
            Some(text) => from_pem(&text).ok_or_else(|| damaged(&certificate_path))?,
            None => {
                let certificate = params.self_signed(&key).map_err(made)?;
                write(&certificate_path, &certificate.pem())?;
                certificate.der().clone()
            }
        };
        Ok(Self { issuer: Issuer::new(params, key), certificate })
    }

    /// Its certificate (X.509, DER), which devices may be told to trust.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// The SHA-256 of its certificate, in pairs of hexadecimal digits, as browsers show it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// A certificate for the server, with a key of its own.
    pub(crate) fn issue(&self, names: &Names, now: SystemTime) -> Result<Arc<CertifiedKey>, TlsError> {
        let mut params = CertificateParams::new(names.all()).map_err(made)?;
        params.distinguished_name = named("Allerac");
        params.not_before = (now - CLOCKS_DIFFER).into();
        params.not_after = (now + VALID).into();
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(made)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(made)?;
        let private = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let signer = any_ecdsa_type(&private).map_err(|error| TlsError::Made(error.to_string()))?;
        Ok(Arc::new(CertifiedKey::new(vec![certificate.der().clone(), self.certificate.clone()], signer)))
    }
}

/// The SHA-256 of a certificate (DER), in pairs of hexadecimal digits.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    let pairs: Vec<String> = digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect();
    pairs.join(":")
}

/// What is in the authority's certificate. It follows from the key alone.
fn params(key: &KeyPair) -> CertificateParams {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.public_key_raw());
    let mut params = CertificateParams::default();
    params.distinguished_name = named(&format!("Allerac box {}", HEXLOWER.encode(&digest.as_ref()[..MARK_BYTES])));
    params.not_before = date_time_ymd(YEARS.0, 1, 1);
    params.not_after = date_time_ymd(YEARS.1, 1, 1);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(constraints());
    params
}

fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn made(error: rcgen::Error) -> TlsError {
    TlsError::Made(error.to_string())
}

fn read(path: &Path) -> Result<Option<String>, TlsError> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(TlsError::file(path)(error)),
    }
}

/// Writes it whole or not at all, for nobody else to read.
fn write(path: &Path, text: &str) -> Result<(), TlsError> {
    let partial = path.with_extension("partial");
    let write = || {
        let _ = fs::remove_file(&partial);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&partial)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&partial, path)?;
        path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
    };
    write().map_err(TlsError::file(path))
}

/// The bytes of the first certificate in a PEM text.
fn from_pem(text: &str) -> Option<CertificateDer<'static>> {
    use rustls::pki_types::pem::PemObject;
    CertificateDer::from_pem_slice(text.as_bytes()).ok()
}
