"""The clients under test, one module each: ``run(session, variant)`` calls ``session.tick`` at each top."""
