//! Cedar: may this be done, in this case? What no policy permits is refused, and so is what a policy cannot judge.
//!
//! Policies are checked against their schema when they are read, and the schema against the questions that are asked, so that
//! nothing is left to find out while something burns. Whatever a policy may know is in the question: it asks nobody.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use cedar_policy::ffi::DetailedError;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, EntityId, EntityTypeName, EntityUid, PolicyId, PolicySet, Request,
    RestrictedExpression, Schema, ValidationMode, Validator,
};

use super::{Circumstances, PolicyError};
use crate::config::NamedText;
use crate::model::action::{ActionKind, Intent};
use crate::model::pipeline::Scope;

/// The name that each policy is called by in reasons, `@id("…")` before it.
const NAME: &str = "id";

/// The policies of one file, ready to be asked.
pub(super) struct Permissions {
    authorizer: Authorizer,
    policies: PolicySet,
    entities: Entities,
    principal: EntityUid,
    module: EntityTypeName,
    actions: BTreeMap<ActionKind, EntityUid>,
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
        let actions = ActionKind::ALL
            .map(|kind| (kind, EntityUid::from_type_name_and_id(action.clone(), EntityId::new(kind.name()))));
        let permissions = Permissions {
            authorizer: Authorizer::new(),
            policies,
            entities: rules.action_entities().map_err(|error| unusable(error.to_string()))?,
            principal: EntityUid::from_type_name_and_id(agent, EntityId::new("maturion")),
            module: names("Module")?,
            actions: actions.into_iter().collect(),
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
        let request = self.question(kind, scope, intent, case, None)?;
        let response = self.authorizer.is_authorized(&request, &self.policies, &self.entities);
        let answer = response.diagnostics();
        // Cedar skips a policy that it cannot evaluate. It might have been the one that forbids.
        if let Some(error) = answer.errors().next() {
            return Err(format!("a policy cannot be evaluated: {error}"));
        }
        let named: Vec<&str> = answer.reason().map(|policy| self.name(policy)).collect();
        match (response.decision(), named.as_slice()) {
            (Decision::Allow, named) => Ok(format!("permitted by {}", named.join(", "))),
            (Decision::Deny, []) => Err(format!("no policy permits {} in this case", kind.name())),
            (Decision::Deny, named) => Err(format!("forbidden by {}", named.join(", "))),
        }
    }

    fn name<'a>(&'a self, policy: &'a PolicyId) -> &'a str {
        self.policies.annotation(policy, NAME).unwrap_or_else(|| policy.as_ref())
    }

    fn question(
        &self,
        kind: ActionKind,
        scope: Scope,
        intent: &Intent,
        case: &Circumstances,
        schema: Option<&Schema>,
    ) -> Result<Request, String> {
        let action = self.actions.get(&kind).ok_or_else(|| format!("{} is not in the schema", kind.name()))?;
        let module = EntityUid::from_type_name_and_id(self.module.clone(), EntityId::new(&intent.target));
        let context = Context::from_pairs(context(scope, intent, case)).map_err(|error| error.to_string())?;
        Request::new(self.principal.clone(), action.clone(), module, context, schema).map_err(|error| error.to_string())
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
                self.question(kind, Scope::Trivial, &intent, &Circumstances::default(), Some(schema))
                    .map_err(|reason| format!("does not fit what is asked about {}: {reason}", kind.name()))?;
            }
        }
        Ok(())
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
