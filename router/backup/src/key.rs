//! What seals a backup and what opens it.

use std::fmt;
use std::io::Write;
use std::str::FromStr;

use age::secrecy::SecretString;
use age::stream::StreamWriter;
use age::{Encryptor, Identity, Recipient, scrypt, x25519};

use crate::error::BackupError;

/// log2 of scrypt's work: age's own default, 256 MiB and about a second. It is fixed, so that a backup of a fast box
/// opens on a slow one.
const WORK_LOG2: u8 = 18;
/// What is refused: 4 GiB of memory.
const WORK_LOG2_MAX: u8 = 22;

/// What a backup is sealed with.
#[derive(Clone)]
pub enum Lock {
    /// A passphrase: it opens it too.
    Passphrase(String),
    /// age recipients: only who has one of their identities opens it; the box itself cannot.
    Recipients(Vec<String>),
}

/// What a backup is opened with.
#[derive(Clone)]
pub enum Unlock {
    /// The passphrase.
    Passphrase(String),
    /// An age identity file's text.
    Identities(String),
}

impl Lock {
    /// Checks the recipients.
    ///
    /// # Errors
    /// [`BackupError::Setting`] with the first that is none.
    pub fn check(&self) -> Result<(), BackupError> {
        self.recipients().map(|_| ())
    }

    fn recipients(&self) -> Result<Vec<Box<dyn Recipient>>, BackupError> {
        match self {
            Self::Passphrase(passphrase) if passphrase.is_empty() => {
                Err(BackupError::Setting("the passphrase is empty; choose one of several words".to_owned()))
            }
            Self::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.clone()));
                recipient.set_work_factor(WORK_LOG2);
                Ok(vec![Box::new(recipient)])
            }
            Self::Recipients(recipients) if recipients.is_empty() => {
                Err(BackupError::Setting("no recipient is given; name at least one: age1...".to_owned()))
            }
            Self::Recipients(recipients) => recipients
                .iter()
                .map(|text| match x25519::Recipient::from_str(text) {
                    Ok(recipient) => Ok(Box::new(recipient) as Box<dyn Recipient>),
                    Err(why) => Err(BackupError::Setting(format!(
                        "`{text}` is no age recipient ({why}); `age-keygen` makes one"
                    ))),
                })
                .collect(),
        }
    }

    /// A writer that seals what goes to another.
    pub(crate) fn seal<W: Write>(&self, output: W) -> Result<StreamWriter<W>, BackupError> {
        let recipients = self.recipients()?;
        let recipients = recipients.iter().map(|recipient| &**recipient);
        let encryptor = Encryptor::with_recipients(recipients)
            .map_err(|why| BackupError::Setting(format!("nothing can be sealed with this: {why}")))?;
        encryptor.wrap_output(output).map_err(BackupError::io("write", "the backup".as_ref()))
    }
}

impl Unlock {
    /// Its name in messages.
    pub(crate) fn word(&self) -> &'static str {
        match self {
            Self::Passphrase(_) => "passphrase",
            Self::Identities(_) => "identity",
        }
    }

    pub(crate) fn is_passphrase(&self) -> bool {
        matches!(self, Self::Passphrase(_))
    }

    pub(crate) fn identities(&self) -> Result<Vec<Box<dyn Identity>>, BackupError> {
        match self {
            Self::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(SecretString::from(passphrase.clone()));
                identity.set_max_work_factor(WORK_LOG2_MAX);
                Ok(vec![Box::new(identity)])
            }
            Self::Identities(text) => {
                let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
                let identities = lines
                    .map(|line| {
                        x25519::Identity::from_str(line).map(|identity| Box::new(identity) as Box<dyn Identity>)
                    })
                    .collect::<Result<Vec<_>, _>>();
                match identities {
                    Ok(identities) if !identities.is_empty() => Ok(identities),
                    _ => Err(BackupError::Setting(
                        "the identity file has no identity (AGE-SECRET-KEY-1...); `age-keygen` makes one".to_owned(),
                    )),
                }
            }
        }
    }
}

impl fmt::Debug for Lock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Lock(..)")
    }
}

impl fmt::Debug for Unlock {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Unlock(..)")
    }
}
