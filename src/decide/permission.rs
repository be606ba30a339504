//! Cedar: may this be done, in this case? What no policy permits is refused, and so is what a policy cannot judge.
//!
//! Policies are checked against their schema when they are read, and the schema against the questions that are asked, so that
//! nothing is left to find out while something burns. Whatever a policy may know is in the question: it asks nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    ActionConstraint, Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, Policy, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};

use super::{Circumstances, PolicyError};
use crate::config::NamedText;
use crate::model::action::{ActionKind, Intent};
use crate::model::pipeline::Scope;

/// The annotation that names a policy in reasons: `@id("…")`.
const NAME: &str = "id";

/// The policies of one file, ready to be asked.
pub(super) struct Permissions {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    principal: EntityUid,
    module: EntityTypeName,
    actions: BTreeMap<ActionKind, Asked>,
}

/// What is asked about one kind of action.
struct Asked {
    action: EntityUid,
    /// The policies whose scope has this action in it. The others say nothing about it, and take their time.
    policies: PolicySet,
}

impl fmt::Debug for Permissions {
    /// The policies as they are written; their syntax trees fill pages.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.policies)
    }
}

impl Permissions {
    /// Reads the policies and checks them against the schema.
    pub(super) fn read(policy: &NamedText, schema: &NamedText) -> Result<Permissions, PolicyError> {
        let (rules, _) = Schema::from_cedarschema_str(&schema.text)
            .map_err(|error| PolicyError::cedar(schema, &DetailedError::from(&error)))?;
        let policies = PolicySet::from_str(&policy.text)
            .map_err(|error| PolicyError::cedar(policy, &DetailedError::from(&error)))?;
        let policies =
            named(policies).map_err(|reason| PolicyError::Rules { position: policy.name.clone(), reason })?;
        if policies.num_of_templates() > 0 {
            let reason = "has a template, which nothing fills in; write a policy without ?principal and ?resource";
            return Err(PolicyError::Rules { position: policy.name.clone(), reason: reason.to_owned() });
        }
        let validation = Validator::new(rules.clone()).validate(&policies, ValidationMode::Strict);
        if let Some(error) = validation.validation_errors().next() {
            return Err(PolicyError::cedar(policy, &DetailedError::from(error)));
        }
        let unusable = |reason: String| PolicyError::Rules { position: schema.name.clone(), reason };
        let names = |text: &str| EntityTypeName::from_str(text).map_err(|error| unusable(error.to_string()));
        let (agent, action) = (names("Agent")?, names("Action")?);
        let entities = rules.action_entities().map_err(|error| unusable(error.to_string()))?;
        let asked = |kind: ActionKind| {
            let action = EntityUid::from_type_name_and_id(action.clone(), EntityId::new(kind.name()));
            let about = policies.policies().filter(|policy| speaks_of(policy, &action, &entities)).cloned();
            let policies = PolicySet::from_policies(about).map_err(|error| unusable(error.to_string()))?;
            Ok((kind, Asked { action, policies }))
        };
        let actions = ActionKind::ALL.into_iter().map(asked).collect::<Result<_, PolicyError>>()?;
        let permissions = Permissions {
            authorizer: Authorizer::new(),
            policies,
            entities,
            principal: EntityUid::from_type_name_and_id(agent, EntityId::new("maturion")),
            module: names("Module")?,
            actions,
        };
        permissions.check_questions(&rules).map_err(unusable)?;
        Ok(permissions)
    }

    /// How many policies there are.
    pub(super) fn len(&self) -> usize {
        self.policies.num_of_policies()
    }

    /// Says which policies permit it, or why it is refused.
    pub(super) fn ask(
        &self,
        kind: ActionKind,
        scope: Scope,
        intent: &Intent,
        case: &Circumstances,
    ) -> Result<String, String> {
        let asked = self.asked(kind)?;
        let request = self.question(asked, scope, intent, case, None)?;
        let response = self.authorizer.is_authorized(&request, &asked.policies, &self.entities);
        let answer = response.diagnostics();
        // Cedar skips a policy that it cannot evaluate. It might have been the one that forbids.
        if let Some(error) = answer.errors().next() {
            return Err(format!("a policy cannot be evaluated: {error}"));
        }
        let named: Vec<&str> = answer.reason().map(|policy| policy.as_ref()).collect();
        match (response.decision(), named.as_slice()) {
            (Decision::Allow, named) => Ok(format!("permitted by {}", named.join(", "))),
            (Decision::Deny, []) => Err(format!("no policy permits {} in this case", kind.name())),
            (Decision::Deny, named) => Err(format!("forbidden by {}", named.join(", "))),
        }
    }

    fn asked(&self, kind: ActionKind) -> Result<&Asked, String> {
        self.actions.get(&kind).ok_or_else(|| format!("no policy was read for {}", kind.name()))
    }

    fn question(
        &self,
        asked: &Asked,
        scope: Scope,
        intent: &Intent,
        case: &Circumstances,
        schema: Option<&Schema>,
    ) -> Result<Request, String> {
        let module = EntityUid::from_type_name_and_id(self.module.clone(), EntityId::new(&intent.target));
        let context = Context::from_pairs(context(scope, intent, case)).map_err(|error| error.to_string())?;
        let (principal, action) = (self.principal.clone(), asked.action.clone());
        Request::new(principal, action, module, context, schema).map_err(|error| error.to_string())
    }

    /// Asks about every kind once, with the schema looking: later questions differ in their values only.
    fn check_questions(&self, schema: &Schema) -> Result<(), String> {
        let intent = Intent {
            incident_id: String::new(),
            action: String::new(),
            target: "module".to_owned(),
            organisation_id: Some("org".to_owned()),
            attempt: 1,
            change: None,
        };
        for kind in ActionKind::ALL {
            for organisation_id in [None, Some("org".to_owned())] {
                let intent = Intent { organisation_id, ..intent.clone() };
                self.question(self.asked(kind)?, Scope::Trivial, &intent, &Circumstances::default(), Some(schema))
                    .map_err(|reason| format!("does not fit what is asked about {}: {reason}", kind.name()))?;
            }
        }
        Ok(())
    }
}

/// The policies, each called by its name if it has one.
fn named(policies: PolicySet) -> Result<PolicySet, String> {
    let renamed = policies.policies().map(|policy| match policy.annotation(NAME) {
        Some(name) => policy.new_id(PolicyId::new(name)),
        None => policy.clone(),
    });
    let mut named =
        PolicySet::from_policies(renamed).map_err(|error| format!("two policies have one name: {error}"))?;
    for template in policies.templates() {
        named.add_template(template.clone()).map_err(|error| error.to_string())?;
    }
    Ok(named)
}

/// True unless the scope of the policy leaves this action out.
fn speaks_of(policy: &Policy, action: &EntityUid, entities: &Entities) -> bool {
    let is_in = |group: &EntityUid| group == action || entities.is_ancestor_of(group, action);
    match policy.action_constraint() {
        ActionConstraint::Any => true,
        ActionConstraint::Eq(one) => one == *action,
        ActionConstraint::In(groups) => groups.iter().any(is_in),
    }
}

/// What a policy may know of a case.
fn context(scope: Scope, intent: &Intent, case: &Circumstances) -> Vec<(String, RestrictedExpression)> {
    let long = |number: u32| RestrictedExpression::new_long(number.into());
    let text = |text: &str| RestrictedExpression::new_string(text.to_owned());
    let counts = &case.actions_last_hour;
    let mut pairs = vec![
        ("severity".to_owned(), text(case.severity.name())),
        ("scope".to_owned(), text(scope.name())),
        ("tenants_affected".to_owned(), long(case.tenants_affected)),
        ("attempt".to_owned(), long(intent.attempt)),
        ("unverified_in_a_row".to_owned(), long(case.unverified_in_a_row)),
        ("actions_on_target".to_owned(), long(counts.target)),
        ("actions_of_kind".to_owned(), long(counts.action)),
        ("actions_for_organisation".to_owned(), long(counts.organisation)),
        ("actions_overall".to_owned(), long(counts.overall)),
        ("unhealthy_modules".to_owned(), long(case.unhealthy_modules)),
        ("modules".to_owned(), long(case.modules)),
    ];
    if let Some(organisation) = &intent.organisation_id {
        pairs.push(("organisation".to_owned(), text(organisation)));
    }
    pairs
}
