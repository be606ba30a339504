//! What is kept of handing an incident over to people: what its ticket rests on, and what was proposed.

use super::Book;
use crate::incident::witness::Witness;
use crate::incident::{Incident, ProposalNote};

impl Book {
    /// What the logs say. It is heard once: the ticket that was written from it stays as it is.
    pub fn witness(&mut self, id: &str, witness: Witness) {
        let Some(incident) = self.incidents.get_mut(id).filter(|incident| incident.witness.is_none()) else { return };
        incident.witness = Some(Box::new(witness));
        self.written(id);
    }

    /// What is known of a proposal. Once it is settled it stays so.
    pub fn proposed(&mut self, id: &str, note: ProposalNote) {
        let Some(incident) = self.incidents.get_mut(id).filter(|incident| !incident.has_settled()) else { return };
        incident.proposal = Some(Box::new(note));
        self.written(id);
    }
}

impl Incident {
    /// True once it is known what became of proposing what helped.
    fn has_settled(&self) -> bool {
        self.proposal.as_ref().is_some_and(|note| note.is_settled)
    }
}
