//! Bytes from outside, as far as the pipeline grants their source.

use wasmtime::component::Resource;

use super::{Blob, Code, Failure, Host, Observation, Tree};
use crate::digest::Digest;
use crate::fetch::{FetchError, Fetcher, Found, Request};
use crate::plugin::bindings::pipe::step::fetch as wit;
use crate::store::StoreError;

impl From<FetchError> for Failure {
    fn from(error: FetchError) -> Self {
        if let FetchError::Store(error @ (StoreError::Stopped | StoreError::TooLate(_))) = error {
            return error.into();
        }
        let code = if error.unavailable() { Code::Unavailable } else { Code::Failed };
        Self { hint: error.hint(), retryable: error.transient(), ..Self::of(code, &error) }
    }
}

impl From<Found> for wit::Found {
    fn from(Found { name, url, digest }: Found) -> Self {
        Self { name, url, digest }
    }
}

impl Host {
    /// What fetches for as long as that is wanted.
    fn fetcher(&mut self) -> Result<Fetcher, Failure> {
        let services = self.services()?;
        Ok(services.fetcher.wanted(services.until()))
    }

    fn check_source(&mut self, source: &str) -> Result<(), Failure> {
        let services = self.services()?;
        if services.grants.fetch.iter().any(|granted| granted == source) {
            return Ok(());
        }
        let granted = services.grants.fetch.iter().map(String::as_str).chain([source]);
        let granted: Vec<String> = granted.map(|name| format!("\"{name}\"")).collect();
        Err(Failure::new(
            Code::Denied,
            format!("the pipeline does not let step `{}` fetch from `{source}`", services.step),
        )
        .hint(format!("let `fetch` in the grants of `[steps.{}]` be [{}]", services.step, granted.join(", "))))
    }
}

impl wit::Host for Host {
    fn get(&mut self, requests: Vec<wit::Request>) -> Result<Vec<Resource<Blob>>, Failure> {
        for request in &requests {
            self.check_source(&request.source)?;
        }
        let requests: Vec<Request> = requests
            .into_iter()
            .map(|wit::Request { source, url, name, digest }| Request { source, url, name, digest })
            .collect();
        let fetcher = self.fetcher()?;
        let blobs = fetcher.get(&requests)?;
        blobs.into_iter().map(|digest| Ok(self.table.push(Blob { digest, origin: None, reader: None })?)).collect()
    }

    fn find(&mut self, source: String, project: String, digests: Vec<String>) -> Result<Vec<wit::Found>, Failure> {
        self.check_source(&source)?;
        let fetcher = self.fetcher()?;
        Ok(fetcher.find(&source, &project, &digests)?.into_iter().map(wit::Found::from).collect())
    }

    fn find_all(&mut self, source: String, lookups: Vec<wit::Lookup>) -> Result<Vec<Vec<wit::Found>>, Failure> {
        self.check_source(&source)?;
        let lookups: Vec<(String, Vec<String>)> =
            lookups.into_iter().map(|wit::Lookup { project, digests }| (project, digests)).collect();
        let fetcher = self.fetcher()?;
        let found = fetcher.find_all(&source, &lookups)?;
        Ok(found.into_iter().map(|files| files.into_iter().map(wit::Found::from).collect()).collect())
    }

    fn pin(&mut self, source: String, requirements: Vec<String>, constraints: Vec<String>) -> Result<String, Failure> {
        self.check_source(&source)?;
        let pin = self.services()?.pin.clone();
        let text = pin(&source, &requirements, &constraints)?;
        let answer = Digest::of(text.as_bytes());
        self.observations.insert(Observation::Pin { source, requirements, constraints, answer });
        Ok(text)
    }

    fn git(&mut self, url: String, commit: String) -> Result<Resource<Tree>, Failure> {
        self.check_source("git")?;
        let fetcher = self.fetcher()?;
        let digest = fetcher.git(&url, &commit)?;
        Ok(self.table.push(Tree { digest, origin: None })?)
    }
}
