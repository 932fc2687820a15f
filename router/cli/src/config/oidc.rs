//! `[oidc]`: another provider with which people sign in.

use std::fs;
use std::path::{Path, PathBuf};

use allerac_http::SingleSignOn;
use allerac_ledger::{DEFAULT_PLAN, Role};
use allerac_sso::{Provider, Settings};
use serde::Deserialize;

use super::backup::line;
use crate::failure::{Exit, Failure};

/// The longest name of a provider, in characters: it stands on a button.
const NAME_CHARS_MAX: usize = 40;

/// As written in the file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct OidcSection {
    /// What the page calls it.
    name: String,
    issuer: String,
    client_id: String,
    client_secret_file: Option<PathBuf>,
    #[serde(default = "scopes")]
    scopes: Vec<String>,
    #[serde(default)]
    domains: Vec<String>,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default = "groups_claim")]
    groups_claim: String,
    /// Certificates of authorities that are trusted beside those that everybody trusts (PEM).
    certificate_file: Option<PathBuf>,
    new_people: Option<NewPeople>,
}

/// What somebody becomes whom only the provider knows.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct NewPeople {
    #[serde(default = "member")]
    role: Role,
    plan: Option<String>,
}

fn scopes() -> Vec<String> {
    ["profile", "email"].map(str::to_owned).into()
}

fn groups_claim() -> String {
    "groups".to_owned()
}

fn member() -> Role {
    Role::Member
}

impl OidcSection {
    /// The provider, with its secret read. `folder` is where relative paths start.
    pub(crate) fn open(&self, folder: &Path) -> Result<SingleSignOn, Failure> {
        let name = self.name.trim();
        if !(1..=NAME_CHARS_MAX).contains(&name.chars().count()) {
            return Err(mistake(&format!("a name has 1 to {NAME_CHARS_MAX} characters"), "correct `name`"));
        }
        let newcomers = self.new_people.as_ref().map(|new| (new.role, new.plan.clone()));
        if let Some((role @ (Role::Owner | Role::Admin), _)) = &newcomers {
            let why = format!("`new_people` cannot become {role}: whoever the provider lets in would rule the box");
            return Err(mistake(&why, "let them become member, and make them more by hand"));
        }
        let certificates = self.certificate_file.as_ref().map(|path| {
            let path = folder.join(path);
            fs::read(&path).map_err(|error| Failure::from_io("read the certificate", &path, &error))
        });
        let settings = Settings {
            issuer: self.issuer.clone(),
            client_id: self.client_id.clone(),
            secret: self.client_secret_file.as_ref().map(|path| line(&folder.join(path))).transpose()?,
            scopes: self.scopes.iter().filter(|scope| *scope != "openid").cloned().collect(),
            groups_claim: self.groups_claim.clone(),
            domains: self.domains.clone(),
            groups: self.groups.clone(),
            certificates: certificates.transpose()?,
        };
        let provider = Provider::new(settings)
            .map_err(|why| mistake(&why.to_string(), "correct it; docs/sso.md in the project shows examples"))?;
        let newcomers = newcomers.map(|(role, plan)| (role, plan.unwrap_or_else(|| DEFAULT_PLAN.to_owned())));
        Ok(SingleSignOn { name: name.to_owned(), provider, newcomers })
    }

    /// The plan of somebody new, where one is named.
    pub(crate) fn plan(&self) -> Option<&str> {
        self.new_people.as_ref().and_then(|new| new.plan.as_deref())
    }
}

fn mistake(why: &str, hint: &str) -> Failure {
    Failure::new(Exit::Usage, format!("[oidc] in the configuration file: {why}")).hint(hint)
}

#[cfg(test)]
mod tests {
    use super::*;

    const PROVIDER: &str = "name = \"Work\"\nissuer = \"https://id.example\"\nclient_id = \"box\"\n";

    fn open(text: &str) -> Result<SingleSignOn, Failure> {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("secret"), "abc\n").unwrap();
        fs::write(folder.path().join("empty"), "").unwrap();
        toml::from_str::<OidcSection>(text).unwrap().open(folder.path())
    }

    #[test]
    fn people_are_invited_where_nothing_else_is_said() {
        let sso = open(PROVIDER).unwrap();
        assert_eq!((sso.name.as_str(), sso.newcomers, sso.provider.issuer()), ("Work", None, "https://id.example"));
        let sso = open(&format!("{PROVIDER}client_secret_file = \"secret\"\nnew_people = {{}}")).unwrap();
        assert_eq!(sso.newcomers, Some((Role::Member, "personal".to_owned())));
        let child = format!("{PROVIDER}new_people = {{ role = \"child\", plan = \"starter\" }}");
        assert_eq!(open(&child).unwrap().newcomers, Some((Role::Child, "starter".to_owned())));
    }

    #[test]
    fn each_mistake_is_told() {
        for (text, part) in [
            (format!("{PROVIDER}new_people = {{ role = \"owner\" }}"), "cannot become owner"),
            (format!("{PROVIDER}new_people = {{ role = \"admin\" }}"), "cannot become admin"),
            (format!("{PROVIDER}client_secret_file = \"none\""), "none"),
            (format!("{PROVIDER}client_secret_file = \"empty\""), "not one line"),
            (format!("{PROVIDER}certificate_file = \"empty2\""), "empty2"),
            (format!("{PROVIDER}domains = [\"@x\"]"), "no domain"),
            (PROVIDER.replace("https://id.example", "http://id.example"), "beginning with https://"),
            (PROVIDER.replace("\"box\"", "\"\""), "client_id"),
            (PROVIDER.replace("Work", " "), "1 to 40"),
        ] {
            let (told, ..) = open(&text).unwrap_err().into_parts();
            assert!(told.contains(part), "{text}: {told}");
        }
        for unknown in ["x = 1\n", "new_people = { rank = 1 }\n", "new_people = { role = \"boss\" }\n"] {
            assert!(toml::from_str::<OidcSection>(&format!("{PROVIDER}{unknown}")).is_err(), "{unknown}");
        }
    }
}
