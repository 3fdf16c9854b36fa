"""What `superset db upgrade`, `superset init` and `superset fab create-admin` do, in one go: each would load everything anew."""
from flask_migrate import upgrade
from superset.app import create_app

app = create_app()
with app.app_context():
    upgrade()
    from superset import appbuilder, security_manager
    appbuilder.add_permissions(update_perms=True)
    security_manager.sync_role_definitions()
    admin = security_manager.find_role("Admin")
    if not security_manager.add_user("admin", "Admin", "Admin", "admin@example.org", admin, password="admin"):
        raise SystemExit("the user admin could not be made")
