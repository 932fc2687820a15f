use std::fs;
use std::net::IpAddr;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConnection};

use super::{Authority, Certificates, Files, TlsError};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Some time in 2026.
fn then() -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(1_780_000_000)
}

#[derive(Debug)]
struct Clock(SystemTime);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        Some(UnixTime::since_unix_epoch(self.0.duration_since(SystemTime::UNIX_EPOCH).ok()?))
    }
}

fn own(folder: &Path, address: &str) -> Certificates {
    let address: IpAddr = address.parse().unwrap();
    Certificates::own(Authority::open(folder).unwrap(), "kitchen", [address], then()).unwrap()
}

/// Shakes hands over memory, as a device that trusts `root`; what it says of the certificate.
fn call(certificates: Certificates, root: &[u8], name: &str, now: SystemTime) -> Result<(), String> {
    let mut roots = RootCertStore::empty();
    roots.add(root.to_vec().into()).unwrap();
    let client = ClientConfig::builder_with_details(Arc::new(aws_lc_rs::default_provider()), Arc::new(Clock(now)))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let mut client = ClientConnection::new(Arc::new(client), name).unwrap();
    let mut server = ServerConnection::new(Arc::new(certificates).server_config().unwrap()).unwrap();
    while client.is_handshaking() || server.is_handshaking() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            server.read_tls(&mut rest).unwrap();
            server.process_new_packets().map_err(|error| error.to_string())?;
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        let mut rest = wire.as_slice();
        while !rest.is_empty() {
            client.read_tls(&mut rest).unwrap();
            client.process_new_packets().map_err(|error| error.to_string())?;
        }
    }
    Ok(())
}

#[test]
fn a_device_that_trusts_the_box_reaches_it_by_every_local_name() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["kitchen.local", "kitchen-2.local", "kitchen.home.arpa", "localhost", "192.168.1.20", "127.0.0.1"] {
        let certificates = own(folder.path(), "192.168.1.20");
        let root = certificates.authority().unwrap().certificate().to_vec();
        assert_eq!(call(certificates, &root, name, then()), Ok(()), "{name}");
    }
    let certificates = own(folder.path(), "192.168.1.20");
    let root = certificates.authority().unwrap().certificate().to_vec();
    let refused = call(certificates, &root, "192.168.1.21", then()).unwrap_err();
    assert!(refused.contains("not valid for name"), "{refused}");
}

#[test]
fn a_device_of_another_box_is_told() {
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let root = Authority::open(other.path()).unwrap().certificate().to_vec();
    let refused = call(own(one.path(), "10.0.0.1"), &root, "kitchen.local", then()).unwrap_err();
    assert!(refused.contains("UnknownIssuer"), "{refused}");
}

#[test]
fn nobody_who_has_the_authority_can_pass_for_a_site_of_the_internet() {
    let folder = tempfile::tempdir().unwrap();
    let authority = Authority::open(folder.path()).unwrap();
    let root = authority.certificate().to_vec();
    let certificates = Certificates::of_a_thief(authority, "bank.example", then());
    let refused = call(certificates, &root, "bank.example", then()).unwrap_err();
    assert!(refused.contains("NameConstraintViolation"), "{refused}");
}

#[test]
fn the_authority_is_made_once_and_for_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let first = Authority::open(folder.path()).unwrap();
    let again = Authority::open(folder.path()).unwrap();
    assert_eq!(first.certificate(), again.certificate());
    assert_eq!(first.fingerprint(), again.fingerprint());
    assert_eq!(first.fingerprint().len(), 32 * 3 - 1);
    let mode = folder.path().join("authority.key").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // A crash between the two files leaves the key: the certificate is made of it.
    fs::remove_file(folder.path().join("authority.crt")).unwrap();
    let root = Authority::open(folder.path()).unwrap().certificate().to_vec();
    assert_eq!(call(own(folder.path(), "10.0.0.1"), &root, "kitchen.local", then()), Ok(()));
}

#[test]
fn damaged_files_are_named_and_left_alone() {
    for name in ["authority.key", "authority.crt"] {
        let folder = tempfile::tempdir().unwrap();
        drop(Authority::open(folder.path()).unwrap());
        fs::write(folder.path().join(name), [0xff; 10]).unwrap();
        let Err(TlsError::Damaged { path }) = Authority::open(folder.path()) else { panic!("{name} was taken") };
        assert_eq!(path, folder.path().join(name));
        assert_eq!(fs::read(&path).unwrap(), [0xff; 10]);
    }
}

#[test]
fn certificates_are_made_anew_before_they_end_and_for_other_addresses() {
    let folder = tempfile::tempdir().unwrap();
    let certificates = own(folder.path(), "10.0.0.1");
    let (here, there) = (["10.0.0.1".parse().unwrap()], ["10.0.0.2".parse().unwrap()]);
    assert!(!certificates.renew(here, then() + 59 * DAY).unwrap());
    assert!(certificates.renew(here, then() + 61 * DAY).unwrap());
    assert!(!certificates.renew(here, then() + 61 * DAY).unwrap());
    assert!(certificates.renew(there, then() + 61 * DAY).unwrap());
    // The clock was wrong, and was set.
    assert!(certificates.renew(there, then()).unwrap());
    let root = certificates.authority().unwrap().certificate().to_vec();
    assert_eq!(call(certificates, &root, "10.0.0.2", then() + 89 * DAY), Ok(()));
    let refused = call(own(folder.path(), "10.0.0.1"), &root, "10.0.0.1", then() + 91 * DAY).unwrap_err();
    assert!(refused.to_lowercase().contains("expired"), "{refused}");
}

#[test]
fn a_certificate_of_the_owners_is_shown_and_read_again_when_it_was_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let files = Files { certificate: folder.path().join("site.crt"), key: folder.path().join("site.key") };
    let bring = || {
        let made = rcgen::generate_simple_self_signed(vec!["box.example".to_owned()]).unwrap();
        fs::write(&files.certificate, made.cert.pem()).unwrap();
        fs::write(&files.key, made.signing_key.serialize_pem()).unwrap();
    };
    assert!(matches!(Certificates::given(files.clone()), Err(TlsError::File { .. })));
    bring();
    let certificates = Certificates::given(files.clone()).unwrap();
    assert!(certificates.authority().is_none());
    assert!(!certificates.renew([], then()).unwrap());
    bring();
    let later = fs::File::open(&files.certificate).unwrap();
    later.set_modified(SystemTime::now() + DAY).unwrap();
    assert!(certificates.renew([], then()).unwrap());
    // The key of another certificate: what is shown stays.
    fs::write(&files.key, rcgen::KeyPair::generate().unwrap().serialize_pem()).unwrap();
    fs::File::open(&files.key).unwrap().set_modified(SystemTime::now() + 2 * DAY).unwrap();
    let error = certificates.renew([], then()).unwrap_err();
    assert!(matches!(error, TlsError::Given { .. }), "{error}");
}
