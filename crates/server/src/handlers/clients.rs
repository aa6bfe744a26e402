//! How many watches each client has open.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use http::StatusCode;
use serde_json::Map;

use crate::status::ApiError;

/// Far more than a client needs that watches every resource in every namespace it knows; one that leaks gets this far.
const MOST_WATCHES: usize = 1000;

#[derive(Debug, Clone, Default)]
pub(super) struct Clients {
    watches: Arc<Mutex<HashMap<String, usize>>>,
}

/// A watch that counts; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Place {
    clients: Clients,
    client: String,
}

impl Clients {
    /// # Errors
    /// 429 when the client has too many watches.
    pub(super) fn enter(&self, client: &str) -> Result<Place, ApiError> {
        let mut watches = self.watches.lock().unwrap_or_else(PoisonError::into_inner);
        let open = watches.entry(client.to_owned()).or_default();
        if *open >= MOST_WATCHES {
            let message =
                format!("{client:?} has {MOST_WATCHES} watches open, please close some and try again later");
            let details = Map::from_iter([("retryAfterSeconds".to_owned(), 10.into())]);
            return Err(ApiError::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", message)
                .with_details(details));
        }
        *open += 1;
        Ok(Place { clients: self.clone(), client: client.to_owned() })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut watches = self.clients.watches.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(open) = watches.get_mut(&self.client) {
            *open = open.saturating_sub(1);
            if *open == 0 {
                watches.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_leaks_watches_is_stopped_and_others_are_not() {
        let clients = Clients::default();
        let mut open: Vec<Place> = (0..MOST_WATCHES).map(|_| clients.enter("alice").unwrap()).collect();
        let error = clients.enter("alice").unwrap_err();
        assert_eq!((error.code.as_u16(), error.reason), (429, "TooManyRequests"));
        assert!(clients.enter("bob").is_ok());
        open.pop();
        assert!(clients.enter("alice").is_ok());
    }
}
