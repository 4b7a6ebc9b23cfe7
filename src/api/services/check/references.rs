//! What a container refers to: secrets, configs, credentials.

use std::collections::BTreeMap;

use crate::api::services::problem::SpecProblem;
use crate::model::task_spec::{ContainerSpec, CredentialSpec, FileTarget};

const SECRET: &str = "secret";
const CONFIG: &str = "config";

pub(super) fn check(container: &ContainerSpec) -> Result<(), SpecProblem> {
    let privileges = container.privileges.as_ref();
    let credential = privileges.and_then(|privileges| privileges.credential_spec.as_ref());
    if let Some(credential) = credential {
        check_credential(credential)?;
    }
    check_secrets(container)?;
    check_configs(container, credential)
}

fn check_credential(credential: &CredentialSpec) -> Result<(), SpecProblem> {
    let given = [&credential.config, &credential.file, &credential.registry];
    match given.iter().filter(|text| !text.is_empty()).count() {
        0 => Err(SpecProblem::NoCredential),
        1 => Ok(()),
        _ => Err(SpecProblem::Credentials),
    }
}

/// The files that references of one kind become, each named once.
struct Targets<'a> {
    kind: &'static str,
    named: BTreeMap<&'a str, &'a str>,
}

impl<'a> Targets<'a> {
    fn take(&mut self, file: &'a FileTarget, name: &'a str) -> Result<(), SpecProblem> {
        if file.name.is_empty() {
            return Err(SpecProblem::ReferenceFile(self.kind));
        }
        match self.named.insert(&file.name, name) {
            None => Ok(()),
            Some(first) => Err(SpecProblem::ReferenceConflict {
                kind: self.kind,
                first: first.into(),
                second: name.into(),
                target: file.name.clone(),
            }),
        }
    }
}

fn check_secrets(container: &ContainerSpec) -> Result<(), SpecProblem> {
    let mut targets = Targets {
        kind: SECRET,
        named: BTreeMap::new(),
    };
    for secret in &container.secrets {
        if secret.secret_id.is_empty() || secret.secret_name.is_empty() {
            return Err(SpecProblem::Reference(SECRET));
        }
        let file = secret.file.as_ref();
        let file = file.ok_or(SpecProblem::ReferenceTarget(SECRET))?;
        targets.take(file, &secret.secret_name)?;
    }
    Ok(())
}

fn check_configs(
    container: &ContainerSpec,
    credential: Option<&CredentialSpec>,
) -> Result<(), SpecProblem> {
    let wanted = credential.map_or("", |credential| &credential.config);
    let mut found = wanted.is_empty();
    let mut targets = Targets {
        kind: CONFIG,
        named: BTreeMap::new(),
    };
    for config in &container.configs {
        if config.config_id.is_empty() || config.config_name.is_empty() {
            return Err(SpecProblem::Reference(CONFIG));
        }
        match (&config.file, &config.runtime) {
            (None, None) => return Err(SpecProblem::ConfigTarget),
            (Some(_), Some(_)) => return Err(SpecProblem::ConfigTargets),
            (Some(file), None) => targets.take(file, &config.config_name)?,
            (None, Some(_)) => found |= config.config_id == wanted,
        }
    }
    match found {
        true => Ok(()),
        false => Err(SpecProblem::CredentialConfig(wanted.into())),
    }
}
