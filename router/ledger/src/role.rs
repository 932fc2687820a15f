//! What people are on this box, and what they may do: the one table of both.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::plan::UnknownWord;

/// What somebody is on this box.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Claimed the box, or was made an owner by one.
    Owner,
    /// Manages it.
    Admin,
    /// Uses it.
    Member,
    /// Uses it at certain hours, and never leaves it.
    Child,
    /// Looks at what was used and done, and uses nothing.
    Auditor,
}

/// Something that not everybody may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Right {
    /// Asking models, and what is kept of answers.
    Infer,
    /// Seeing which models there are.
    SeeModels,
    /// Files and batches.
    Files,
    /// Requests on other servers, where plan and key allow it too.
    LeaveTheBox,
    /// Seeing and securing one's own account.
    Account,
    /// Making keys for oneself.
    OwnKeys,
    /// Seeing people, keys, plans, usage, the audit log and the metrics.
    Look,
    /// Changing people, keys, plans, teams and models.
    Administer,
    /// Making and changing owners and admins.
    MakeAdmins,
}

/// A group of endpoints that a key may be bound to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Asking models.
    Inference,
    /// Seeing which there are.
    Models,
    /// Files and batches.
    Files,
    /// The person's own account.
    Account,
    /// Looking after the box.
    Admin,
}

/// The scopes of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scopes(u8);

/// Who may do what; the columns are those of [`Role::ALL`]. docs/people.md shows it, and a test holds the two together.
const TABLE: [(Right, [bool; 5]); 9] = [
    (Right::Infer, [true, true, true, true, false]),
    (Right::SeeModels, [true, true, true, true, true]),
    (Right::Files, [true, true, true, false, false]),
    (Right::LeaveTheBox, [true, true, true, false, false]),
    (Right::Account, [true, true, true, true, true]),
    (Right::OwnKeys, [true, true, true, false, false]),
    (Right::Look, [true, true, false, false, true]),
    (Right::Administer, [true, true, false, false, false]),
    (Right::MakeAdmins, [true, false, false, false, false]),
];

impl Role {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Owner, Self::Admin, Self::Member, Self::Child, Self::Auditor];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Owner => "owner",
            Self::Admin => "admin",
            Self::Member => "member",
            Self::Child => "child",
            Self::Auditor => "auditor",
        }
    }

    /// Whether it may do something.
    #[must_use]
    pub fn allows(self, right: Right) -> bool {
        let column = Self::ALL.iter().position(|role| *role == self);
        TABLE.iter().any(|(known, roles)| *known == right && column.is_some_and(|column| roles[column]))
    }

    /// Whether it may make, change and remove somebody of a role.
    #[must_use]
    pub fn governs(self, other: Self) -> bool {
        let ranks_high = matches!(other, Self::Owner | Self::Admin);
        self.allows(if ranks_high { Right::MakeAdmins } else { Right::Administer })
    }

    /// All that it may do, in words.
    #[must_use]
    pub fn rights(self) -> Vec<&'static str> {
        TABLE.iter().filter(|(right, _)| self.allows(*right)).map(|(right, _)| right.what()).collect()
    }

    /// The role of a word in the database; what is not known there may do the least.
    pub(crate) fn from_text(text: &str) -> Self {
        text.parse().unwrap_or(Self::Child)
    }
}

impl FromStr for Role {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|role| role.as_str() == word);
        found.ok_or_else(|| UnknownWord::new(word, "owner, admin, member, child and auditor"))
    }
}

impl fmt::Display for Role {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.as_str())
    }
}

impl Right {
    /// The scope that a key needs for it.
    #[must_use]
    pub fn scope(self) -> Scope {
        match self {
            Self::Infer | Self::LeaveTheBox => Scope::Inference,
            Self::SeeModels => Scope::Models,
            Self::Files => Scope::Files,
            Self::Account | Self::OwnKeys => Scope::Account,
            Self::Look | Self::Administer | Self::MakeAdmins => Scope::Admin,
        }
    }

    /// What it is, in a sentence's place.
    #[must_use]
    pub fn what(self) -> &'static str {
        match self {
            Self::Infer => "ask models",
            Self::SeeModels => "see which models there are",
            Self::Files => "use files and batches",
            Self::LeaveTheBox => "use other servers",
            Self::Account => "see and secure their own account",
            Self::OwnKeys => "make keys of their own",
            Self::Look => "see people, usage, plans, the audit log and metrics",
            Self::Administer => "change people, keys, plans, teams and models",
            Self::MakeAdmins => "make, change and remove owners and admins",
        }
    }
}

impl Scope {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::Inference, Self::Models, Self::Files, Self::Account, Self::Admin];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inference => "inference",
            Self::Models => "models",
            Self::Files => "files",
            Self::Account => "account",
            Self::Admin => "admin",
        }
    }

    fn bit(self) -> u8 {
        1 << (self as u8)
    }
}

impl FromStr for Scope {
    type Err = UnknownWord;

    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        let found = Self::ALL.into_iter().find(|scope| scope.as_str() == word);
        found.ok_or_else(|| UnknownWord::new(word, "inference, models, files, account and admin"))
    }
}

impl Default for Scopes {
    fn default() -> Self {
        Self::ALL
    }
}

impl Scopes {
    /// All that the role of a person may.
    pub const ALL: Self = Self(0b1_1111);

    /// These; all where there is none.
    #[must_use]
    pub fn of(scopes: &[Scope]) -> Self {
        if scopes.is_empty() { Self::ALL } else { Self(scopes.iter().fold(0, |bits, scope| bits | scope.bit())) }
    }

    /// Whether it is one of them.
    #[must_use]
    pub fn has(self, scope: Scope) -> bool {
        self.0 & scope.bit() != 0
    }

    /// Whether all of these are in those.
    #[must_use]
    pub fn within(self, others: Self) -> bool {
        self.0 & !others.0 == 0
    }

    /// Their words.
    #[must_use]
    pub fn words(self) -> Vec<&'static str> {
        Scope::ALL.into_iter().filter(|scope| self.has(*scope)).map(Scope::as_str).collect()
    }

    pub(crate) fn to_text(self) -> String {
        if self == Self::ALL { String::new() } else { self.words().join(",") }
    }

    /// A word that is not known gives no right.
    pub(crate) fn from_text(text: &str) -> Self {
        match text {
            "" => Self::ALL,
            words => Self(words.split(',').filter_map(|word| word.parse::<Scope>().ok()).fold(0, |a, b| a | b.bit())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_one_in_the_documentation() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/people.md");
        let mut rows = String::new();
        for (right, roles) in TABLE {
            let cells = roles.map(|may| if may { "yes" } else { "" });
            rows += &format!("| {} | {} |\n", right.what(), cells.join(" | "));
        }
        let shown = std::fs::read_to_string(path).unwrap();
        assert!(shown.contains(&rows), "docs/people.md does not show this table:\n{rows}");
    }

    #[test]
    fn every_right_is_in_the_table_once_and_what_is_not_known_may_little() {
        for (right, _) in TABLE {
            assert_eq!(TABLE.iter().filter(|(other, _)| *other == right).count(), 1);
            assert!(Role::Owner.allows(right));
        }
        assert_eq!(Role::from_text("team"), Role::Child);
        assert!(Role::Owner.governs(Role::Owner) && Role::Admin.governs(Role::Child));
        assert!(!Role::Admin.governs(Role::Admin) && !Role::Member.governs(Role::Child));
    }

    #[test]
    fn scopes_survive_their_text_and_unknown_words_open_nothing() {
        for scopes in [Scopes::ALL, Scopes::of(&[Scope::Inference]), Scopes::of(&[Scope::Files, Scope::Admin])] {
            assert_eq!(Scopes::from_text(&scopes.to_text()), scopes);
        }
        assert_eq!(Scopes::from_text("root,inference"), Scopes::of(&[Scope::Inference]));
        assert!(!Scope::ALL.into_iter().any(|scope| Scopes::from_text("root").has(scope)));
        assert!(Scopes::of(&[Scope::Files]).within(Scopes::ALL) && !Scopes::ALL.within(Scopes::of(&[Scope::Files])));
    }
}
