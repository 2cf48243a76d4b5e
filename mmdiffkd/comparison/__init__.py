"""Methods side by side: trainings that differ in the method alone, and what their figures tell."""
