//! Lists, a page at a time, in the shape that all of OpenAI's lists have.

use std::collections::VecDeque;

use allerac_objects::{Order, Page};
use allerac_wire::ListPage;
use axum::Json;
use axum::extract::{FromRequestParts, Query};
use axum::http::request::Parts;
use serde_json::Value;

use crate::error::ApiError;

/// Objects on a page, where the client does not say.
const LIMIT_DEFAULT: usize = 20;
/// Objects on a page of a list about the box.
pub(crate) const PAGE_MAX: u64 = 1000;
/// Names and values of one query.
const PARAMS_MAX: usize = 64;

/// What stands after the question mark, not looked at yet.
pub(crate) struct Params(VecDeque<(String, String)>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::try_from_uri(&parts.uri);
        match pairs {
            Ok(Query(pairs)) if pairs.len() <= PARAMS_MAX => Ok(Self(pairs.into())),
            _ => Err(ApiError::invalid_value("query", "the query of this address cannot be read")),
        }
    }
}

impl Params {
    /// Takes a value.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        let place = self.0.iter().position(|(known, _)| known == name)?;
        self.0.remove(place).map(|(_, value)| value)
    }

    /// Takes every value of a list, which clients write in two ways.
    pub(crate) fn take_all(&mut self, name: &str) -> Vec<String> {
        let listed = format!("{name}[]");
        let (taken, rest) =
            std::mem::take(&mut self.0).into_iter().partition(|(known, _)| *known == name || *known == listed);
        self.0 = rest;
        let taken: VecDeque<(String, String)> = taken;
        taken.into_iter().map(|(_, value)| value).collect()
    }

    /// Takes all of `name[key]`.
    pub(crate) fn take_map(&mut self, name: &str) -> Vec<(String, String)> {
        let inner = |known: &str| Some(known.strip_prefix(name)?.strip_prefix('[')?.strip_suffix(']')?.to_owned());
        let found = self.0.iter().filter_map(|(known, value)| Some((inner(known)?, value.clone()))).collect();
        self.0.retain(|(known, _)| inner(known).is_none());
        found
    }

    /// Takes `true` or `false`.
    pub(crate) fn boolean(&mut self, name: &str) -> Result<bool, ApiError> {
        match self.take(name).as_deref() {
            None | Some("false") => Ok(false),
            Some("true") => Ok(true),
            Some(_) => Err(ApiError::invalid_value(name, &format!("`{name}` must be true or false"))),
        }
    }

    /// Takes a whole number.
    pub(crate) fn number(&mut self, name: &str, least: u64, most: u64) -> Result<Option<u64>, ApiError> {
        let Some(text) = self.take(name) else { return Ok(None) };
        let number = text.parse().ok().filter(|number| (least..=most).contains(number));
        let message = format!("`{name}` must be an integer between {least} and {most}");
        number.map(Some).ok_or_else(|| ApiError::invalid_value(name, &message))
    }

    /// Takes which page is wanted.
    pub(crate) fn page(&mut self, default: Order, limit_max: u64) -> Result<Page, ApiError> {
        let limit = self.number("limit", 1, limit_max)?;
        let order = match self.take("order").as_deref() {
            None => default,
            Some("asc") => Order::Ascending,
            Some("desc") => Order::Descending,
            Some(_) => return Err(ApiError::invalid_value("order", "`order` must be asc or desc")),
        };
        let limit = limit.map_or(LIMIT_DEFAULT, |limit| usize::try_from(limit).unwrap_or(LIMIT_DEFAULT));
        Ok(Page { after: self.take("after"), limit, order })
    }

    /// Refuses what nobody asked for.
    pub(crate) fn finish(self) -> Result<(), ApiError> {
        let Some((name, _)) = self.0.front() else { return Ok(()) };
        let name: String = name.chars().take(64).collect();
        Err(ApiError::invalid_value(&name, &format!("there is no parameter `{name}`")))
    }
}

/// A page of objects, each of which has an id.
pub(crate) fn page<T>(data: Vec<T>, has_more: bool, id: impl Fn(&T) -> &str) -> Json<ListPage<T>> {
    let id = |object: Option<&T>| object.map(|object| id(object).to_owned());
    let (first_id, last_id) = (id(data.first()), id(data.last()));
    Json(ListPage { object: "list", data, first_id, last_id, has_more })
}

/// The page of a list that is at hand as a whole, oldest first; `None` where `page.after` is not in it.
pub(crate) fn slice(mut all: Vec<Value>, wanted: &Page) -> Option<Json<ListPage<Value>>> {
    if wanted.order == Order::Descending {
        all.reverse();
    }
    if let Some(after) = &wanted.after {
        let place = all.iter().position(|item| item["id"] == after.as_str())?;
        all.drain(..=place);
    }
    let has_more = all.len() > wanted.limit;
    all.truncate(wanted.limit);
    Some(page(all, has_more, |item| item["id"].as_str().unwrap_or_default()))
}

/// The page that is asked for of a list that is at hand as a whole, oldest first. Objects have their `id` in it.
pub(crate) fn told(all: Vec<Value>, mut params: Params, default: Order) -> Result<Json<ListPage<Value>>, ApiError> {
    let wanted = params.page(default, PAGE_MAX)?;
    params.finish()?;
    let after = wanted.after.clone().unwrap_or_default();
    slice(all, &wanted).ok_or_else(|| ApiError::nothing("entry in the list", &after).with_param("after"))
}
