//! Whether a task is still what its service asks for.
//!
//! Asked by the updater, which replaces what is not, and by the API, whose clients watch an update by it. Pure. Docker's
//! rules: what no task is made of (labels, replicas, how updates go) dirties none; other constraints dirty only what
//! stands where it may not; and credentials for a registry dirty nothing that has its image.

use super::service::{Service, Template};
use super::task::TaskState;
use super::task::record::Task;
use super::task_spec::{Placement, TaskSpec};

/// Whether `task`, made of `template` and seen in `state`, is to be replaced by one of `service` as it is now. `fits`
/// is asked at most once: whether the task's node meets these constraints.
pub fn is_dirty(
    service: &Service,
    task: &Task,
    template: &Template,
    state: TaskState,
    fits: impl FnOnce(&[String]) -> bool,
) -> bool {
    if task.spec_version == service.spec_version {
        return false;
    }
    let (old, new) = (&template.task, &service.spec.task_template);
    let has_image = task.desired <= TaskState::Running
        && (TaskState::Ready..=TaskState::Running).contains(&state);
    if !has_image && template.registry_auth != service.registry_auth {
        return true;
    }
    if template.endpoint != service.spec.endpoint_spec {
        return true;
    }
    if old == new {
        return false;
    }
    if unconstrained(old) != unconstrained(new) {
        return true;
    }
    let constraints = new.placement.as_ref();
    let constraints = constraints.map_or(&[][..], |placement| &placement.constraints);
    !fits(constraints)
}

/// A spec without its constraints.
fn unconstrained(spec: &TaskSpec) -> TaskSpec {
    let placement = spec.placement.clone().unwrap_or_default();
    TaskSpec {
        placement: Some(Placement {
            constraints: Vec::new(),
            ..placement
        }),
        ..spec.clone()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::model::cluster::Secret;
    use crate::model::service_spec::EndpointSpec;
    use crate::model::{Meta, ServiceId, Slot, TaskId, TaskStatus};

    fn task_spec(value: Value) -> TaskSpec {
        serde_json::from_value(value).unwrap()
    }

    /// A service at version 2, a task of version 1, and the template that both share.
    fn pair() -> (Service, Task, Template) {
        let spec = task_spec(json!({"ContainerSpec": {"Image": "web:1"}, "Placement": {}}));
        let template = Template {
            task: spec.clone(),
            ..Template::default()
        };
        let mut service = Service {
            spec_version: 2,
            ..Service::default()
        };
        service.spec.task_template = spec;
        let task = Task {
            id: TaskId::from_bits(1),
            meta: Meta::default(),
            service: ServiceId::default(),
            slot: Slot::Number(1),
            spec_version: 1,
            iteration: None,
            node: None,
            desired: TaskState::Running,
            status: TaskStatus::default(),
            start: None,
            generic_resources: Vec::new(),
            attachments: Vec::new(),
        };
        (service, task, template)
    }

    #[track_caller]
    fn check(edit: impl FnOnce(&mut Service, &mut Task), fits: bool, dirty: bool) {
        let (mut service, mut task, template) = pair();
        edit(&mut service, &mut task);
        let state = task.status.state;
        let found = is_dirty(&service, &task, &template, state, |_| fits);
        assert_eq!(found, dirty);
    }

    #[test]
    fn what_no_task_is_made_of_dirties_none() {
        check(|_, _| {}, false, false);
        let labels = |service: &mut Service, _: &mut Task| {
            service.spec.labels.insert("a".into(), "b".into());
            service.spec.update_config = Some(Default::default());
        };
        check(labels, false, false);
    }

    #[test]
    fn another_spec_or_a_forced_update_dirties() {
        check(|s, _| s.spec.task_template.force_update = 1, true, true);
        check(|s, _| s.spec.task_template.runtime = "x".into(), true, true);
        let endpoint = |s: &mut Service, _: &mut Task| {
            s.spec.endpoint_spec = Some(EndpointSpec::default());
        };
        check(endpoint, true, true);
        let same_version = |s: &mut Service, t: &mut Task| {
            s.spec.task_template.force_update = 1;
            t.spec_version = 2;
        };
        check(same_version, true, false);
    }

    #[test]
    fn other_constraints_dirty_where_they_are_not_met() {
        let constrain = |service: &mut Service, _: &mut Task| {
            service.spec.task_template.placement = Some(Placement {
                constraints: vec!["node.role==worker".into()],
                ..Placement::default()
            });
        };
        check(constrain, true, false);
        check(constrain, false, true);
        let and_more = |service: &mut Service, task: &mut Task| {
            constrain(service, task);
            service.spec.task_template.force_update = 1;
        };
        check(and_more, true, true);
    }

    #[test]
    fn credentials_dirty_only_what_may_still_need_them() {
        for (state, dirty) in [
            (TaskState::Preparing, true),
            (TaskState::Ready, false),
            (TaskState::Running, false),
            (TaskState::Failed, true),
        ] {
            let other = |service: &mut Service, task: &mut Task| {
                service.registry_auth = Secret("e30=".into());
                task.status.state = state;
            };
            check(other, true, dirty);
        }
    }
}
