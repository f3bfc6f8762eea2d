"""One linear file per flow: read any of them top to bottom. Duplication is welcome here."""
