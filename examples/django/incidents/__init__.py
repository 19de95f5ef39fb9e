"""The app that has the incidents."""
